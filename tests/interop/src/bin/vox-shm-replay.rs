// SPDX-License-Identifier: MIT
//! vox-shm-replay - shows that the ring of vox-shm 0.3.1 can replay old bytes.
//!
//! The published crate, unmodified, on both ends: one thread writes numbered
//! messages into a ring, another reads them. A number that is not the next one
//! is the fault; so is a ring from which nothing comes any more, because what
//! stands at its front is no frame. Not a test: how soon it comes depends on the
//! machine.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shm_primitives::{FileCleanup, PeerId};
use vox_shm::framing::{self, OwnedFrame};
use vox_shm::{Segment, SegmentConfig, SizeClassConfig};

/// Spins, and now and then lets others run.
fn pause(tries: &mut u32) {
	*tries = tries.wrapping_add(1);
	match *tries % 256 {
		0 => std::thread::yield_now(),
		_ => std::hint::spin_loop(),
	}
}

const PATIENCE: Duration = Duration::from_secs(10);

fn number(position: usize, otherwise: u64) -> u64 {
	std::env::args().nth(position).and_then(|word| word.parse().ok()).unwrap_or(otherwise)
}

fn write(segment: &Segment, peer: PeerId, count: u64, stop: &AtomicBool) {
	let ring = segment.g2h_bipbuf(peer);
	let (mut producer, _) = ring.split();
	let mut message = [0u8; 16];
	let mut tries = 0;

	for index in 0..count {
		message[..8].copy_from_slice(&index.to_le_bytes());
		while framing::write_inline(&mut producer, &message[..8 + index as usize % 9])
			.is_err()
		{
			if stop.load(Ordering::Relaxed) {
				return;
			}
			pause(&mut tries);
		}
	}
}

/// Return: which message was expected, and which came.
fn read(segment: &Segment, peer: PeerId, count: u64) -> Option<(u64, String)> {
	let ring = segment.g2h_bipbuf(peer);
	let (_, mut consumer) = ring.split();
	let mut tries = 0;

	for index in 0..count {
		let mut since = None;
		let bytes = loop {
			match framing::read_frame(&mut consumer) {
				Some(OwnedFrame::Inline(bytes)) => break bytes,
				Some(_) => return Some((index, "a reference".to_string())),
				None => pause(&mut tries),
			}
			if tries % 4096 == 0
				&& since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
			{
				return Some((index, "nothing".to_string()));
			}
		};
		let found = bytes.get(..8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
		if found != Some(index) {
			let found =
				found.map_or("too short".to_string(), |found| found.to_string());
			return Some((index, found));
		}
	}
	None
}

fn main() {
	let capacity = number(1, 96) as u32;
	let count = number(2, 100_000_000);
	let path = format!("/dev/shm/vox-shm-replay-{}", std::process::id());
	let classes = [SizeClassConfig { slot_size: 64, slot_count: 1 }];
	let config = SegmentConfig {
		max_guests: 1,
		bipbuf_capacity: capacity,
		max_payload_size: 64,
		inline_threshold: 256,
		heartbeat_interval: 0,
		size_classes: &classes,
	};
	let segment =
		Segment::create(Path::new(&path), config, FileCleanup::Manual).expect("segment");
	let peer = segment.attach_peer().expect("peer");
	let stop = AtomicBool::new(false);
	let start = Instant::now();

	let fault = std::thread::scope(|scope| {
		scope.spawn(|| write(&segment, peer, count, &stop));
		let fault = read(&segment, peer, count);
		stop.store(true, Ordering::Relaxed);
		fault
	});
	let seconds = start.elapsed().as_secs_f64();
	match fault {
		Some((expected, found)) => {
			println!(
				"{capacity}-byte ring: message {expected} expected, {found} came, {seconds:.1} s"
			);
		}
		None => println!(
			"{capacity}-byte ring: {count} messages came right, {seconds:.1} s"
		),
	}
}
