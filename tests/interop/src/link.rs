// SPDX-License-Identifier: MIT
//! A link of the crate's, and traffic over it.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::timeout;
use vox_shm::{ShmLink, ShmLinkRx, ShmLinkTx};
use vox_types::{Backing, Link, LinkRx, LinkTx, LinkTxPermit, WriteSlot};

use crate::traffic::{Digest, Traffic, mix};

pub struct Ends {
	pub tx: ShmLinkTx,
	pub rx: ShmLinkRx,
}

impl Ends {
	pub fn new(link: ShmLink) -> Self {
		let (tx, rx) = link.split();
		Self { tx, rx }
	}
}

/// Sends one message. The crate does not wait for a slot: its users try again.
pub async fn send(tx: &ShmLinkTx, size: usize, fill: impl Fn(&mut [u8])) -> Result<(), String> {
	loop {
		let permit = tx.reserve().await.map_err(|error| format!("reserve: {error}"))?;
		match permit.alloc(size) {
			Ok(mut slot) => {
				fill(slot.as_mut_slice());
				slot.commit();
				return Ok(());
			}
			Err(error) if error.kind() == ErrorKind::WouldBlock => {
				tokio::time::sleep(Duration::from_micros(100)).await;
			}
			Err(error) => return Err(format!("alloc {size}: {error}")),
		}
	}
}

pub async fn send_all(tx: &ShmLinkTx, traffic: &Traffic) -> Result<Digest, String> {
	let mut digest = Digest::default();
	let mut copy = Vec::new();

	for index in 0..traffic.count {
		copy.resize(traffic.size(index), 0);
		traffic.fill(index, &mut copy);
		send(tx, copy.len(), |data| data.copy_from_slice(&copy))
			.await
			.map_err(|error| format!("message {index}: {error}"))?;
		digest.add(&copy);
	}
	Ok(digest)
}

/// Receives one message; an error when the peer has ended.
pub async fn recv(rx: &mut ShmLinkRx) -> Result<Backing, String> {
	match rx.recv().await {
		Ok(Some(message)) => Ok(message),
		Ok(None) => Err("the peer has ended".to_string()),
		Err(error) => Err(error.to_string()),
	}
}

/// How a receiver behaves: it keeps the last `hold` messages borrowed, and
/// gives them back in any order; after each `pause` messages (0: none) it
/// sleeps for a millisecond; it has those before `from` already.
#[derive(Clone, Copy, Default)]
pub struct Manner {
	pub hold: usize,
	pub pause: u64,
	pub from: u64,
}

pub async fn recv_all(
	rx: &mut ShmLinkRx,
	traffic: &Traffic,
	manner: Manner,
) -> Result<Digest, String> {
	let mut digest = Digest::default();
	let mut held: Vec<(u64, Backing)> = Vec::new();

	for index in manner.from..traffic.count {
		let message =
			recv(rx).await.map_err(|error| format!("message {index}: {error}"))?;
		traffic.check(index, message.as_bytes())?;
		digest.add(message.as_bytes());
		held.push((index, message));
		if manner.pause != 0 && index % manner.pause == manner.pause - 1 {
			tokio::time::sleep(Duration::from_millis(1)).await;
		}
		if held.len() > manner.hold {
			let (old, message) = held.swap_remove(mix(index) as usize % held.len());
			traffic.check(old, message.as_bytes())
				.map_err(|error| format!("while borrowed: {error}"))?;
		}
	}
	Ok(digest)
}

/// Sends every message back, until that many have come.
pub async fn echo(ends: &mut Ends, count: u64) -> Result<Digest, String> {
	let mut digest = Digest::default();

	for _ in 0..count {
		let message = recv(&mut ends.rx).await?;
		let bytes = message.as_bytes();
		send(&ends.tx, bytes.len(), |data| data.copy_from_slice(bytes)).await?;
		digest.add(bytes);
	}
	Ok(digest)
}

/// Sends messages of one size until there is no room. Answer: how many, and
/// what was missing.
pub async fn fill(tx: &ShmLinkTx, traffic: &Traffic) -> Result<String, String> {
	for index in 0.. {
		let Ok(permit) = timeout(Duration::from_millis(200), tx.reserve()).await else {
			return Ok(format!("{index} ring"));
		};
		match permit.map_err(|error| error.to_string())?.alloc(traffic.size(index)) {
			Ok(mut slot) => {
				traffic.fill(index, slot.as_mut_slice());
				slot.commit();
			}
			Err(error) if error.kind() == ErrorKind::WouldBlock => {
				return Ok(format!("{index} pool"));
			}
			Err(error) => return Err(error.to_string()),
		}
	}
	unreachable!()
}
