// SPDX-License-Identifier: MIT
//! vox-shm-bench SIZE TRIPS MESSAGES - the round trip and the one-way rate of
//! vox-shm 0.3.1 between two pinned processes, for tests/bench/bench.c, which
//! measures everything else in the same way.
//!
//! Prints nanoseconds a trip and messages a second. The sender writes and the
//! receiver reads one word of each 64-byte line, in place where the crate gives
//! a place.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use shm_primitives::{FileCleanup, PeerId};
use vox_shm::bootstrap::guest_link_from_raw;
use vox_shm::{HostHub, Segment, SegmentConfig, ShmLink, ShmLinkRx, ShmLinkTx, SizeClassConfig};
use vox_types::{Link, LinkRx, LinkTx, LinkTxPermit, WriteSlot};

const LINE: usize = 64;
const MIB: u32 = 1 << 20;

#[derive(Clone, Copy)]
struct Plan {
	size: usize,
	trips: u64,
	messages: u64,
}

fn pin(cpu: usize) {
	// SAFETY: the set is the function's own, and as large as it says.
	unsafe {
		let mut set: libc::cpu_set_t = std::mem::zeroed();
		libc::CPU_SET(cpu, &mut set);
		libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
	}
}

async fn send(tx: &ShmLinkTx, size: usize, value: u64) {
	loop {
		let permit = tx.reserve().await.expect("reserve");
		match permit.alloc(size) {
			Ok(mut slot) => {
				let lines = slot.as_mut_slice().chunks_mut(LINE);
				for line in lines.filter(|line| line.len() >= 8) {
					line[..8].copy_from_slice(&value.to_ne_bytes());
				}
				return slot.commit();
			}
			// The crate waits for room in the ring, not for a slot.
			Err(error) if error.kind() == ErrorKind::WouldBlock => {
				tokio::task::yield_now().await;
			}
			Err(error) => panic!("alloc: {error}"),
		}
	}
}

async fn recv(rx: &mut ShmLinkRx, size: usize, value: u64) {
	let message = rx.recv().await.expect("recv").expect("a message");
	let bytes = message.as_bytes();

	assert_eq!(bytes.len(), size);
	for line in bytes.chunks(LINE).filter(|line| line.len() >= 8) {
		assert_eq!(line[..8], value.to_ne_bytes());
	}
}

/// The parent: asks, then streams; the last word of the other says done.
async fn measure(link: ShmLink, plan: Plan) {
	let Plan { size, trips, messages } = plan;
	let (tx, mut rx) = link.split();
	let start = Instant::now();

	for value in 0..trips {
		send(&tx, size, value).await;
		recv(&mut rx, size, value).await;
	}
	let trip = start.elapsed().as_secs_f64() / trips as f64 * 1e9;
	let start = Instant::now();

	for value in 0..messages {
		send(&tx, size, value).await;
	}
	recv(&mut rx, size, trips + messages).await;
	let rate = messages as f64 / start.elapsed().as_secs_f64();
	send(&tx, size, trips + messages).await;
	println!("{trip} {rate}");
}

async fn answer(link: ShmLink, plan: Plan) {
	let Plan { size, trips, messages } = plan;
	let (tx, mut rx) = link.split();

	for value in 0..trips {
		recv(&mut rx, size, value).await;
		send(&tx, size, value).await;
	}
	for value in 0..messages {
		recv(&mut rx, size, value).await;
	}
	send(&tx, size, trips + messages).await;
	// Until the parent has taken the last word.
	recv(&mut rx, size, trips + messages).await;
}

fn number<T: std::str::FromStr>(position: usize) -> T {
	std::env::args().nth(position).and_then(|word| word.parse().ok()).unwrap_or_else(|| {
		eprintln!("usage: vox-shm-bench SIZE TRIPS MESSAGES");
		std::process::exit(2)
	})
}

/// vox-shm-bench SIZE TRIPS MESSAGES PATH PEER DOORBELL RECEIVER SENDER
async fn guest(plan: Plan) {
	let path: String = number(4);
	let segment = Arc::new(Segment::attach(Path::new(&path)).expect("segment"));
	let peer = PeerId::new(number(5)).expect("peer");
	// SAFETY: the parent left these descriptors to this process.
	let link = unsafe {
		guest_link_from_raw(segment, peer, number(6), number(7), number(8), true)
	};

	answer(link.expect("link"), plan).await;
}

async fn host(plan: Plan) {
	let path = format!("/dev/shm/vox-shm-bench-{}", std::process::id());
	// As bench.c has them, with room for the length that the crate puts into a slot.
	let size_classes = [
		SizeClassConfig { slot_size: (1 << 16) + 64, slot_count: 64 },
		SizeClassConfig { slot_size: MIB + 64, slot_count: 16 },
	];
	let config = SegmentConfig {
		max_guests: 1,
		bipbuf_capacity: MIB,
		max_payload_size: MIB,
		inline_threshold: 8192,
		heartbeat_interval: 0,
		size_classes: &size_classes,
	};
	let segment =
		Segment::create(Path::new(&path), config, FileCleanup::Manual).expect("segment");
	let segment = Arc::new(segment);
	let prepared = HostHub::new(segment.clone()).prepare_peer().expect("peer");
	let (host, ticket) = prepared.into_parts();
	let mut child = std::process::Command::new("/proc/self/exe")
		.args(std::env::args().skip(1))
		.args([path, ticket.peer_id.get().to_string(), ticket.doorbell_arg()])
		.args([ticket.mmap_rx_arg(), ticket.mmap_tx_arg()])
		.spawn()
		.expect("child");

	drop(ticket);
	measure(host.into_link().expect("link"), plan).await;
	assert!(child.wait().expect("child").success());
}

fn main() {
	let plan = Plan { size: number(1), trips: number(2), messages: number(3) };
	let is_guest = std::env::args().len() > 4;
	let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();

	pin(is_guest as usize);
	let runtime = runtime.expect("runtime");
	if is_guest {
		runtime.block_on(guest(plan));
	} else {
		runtime.block_on(host(plan));
	}
}
