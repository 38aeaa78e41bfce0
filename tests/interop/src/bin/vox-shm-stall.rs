// SPDX-License-Identifier: MIT
//! vox-shm-stall - shows that two ends of vox-shm 0.3.1 can wait for each other
//! for ever, with messages in the rings.
//!
//! The published crate, unmodified, on both ends, each of which sends and
//! receives at the same time. The sender waits for room and the receiver for
//! data on one socket, and whichever wakes first takes the other's ring out of
//! it. Not a test: it does not happen in every run.

#[allow(dead_code)]
#[path = "../link.rs"]
mod link;
#[allow(dead_code)]
#[path = "../traffic.rs"]
mod traffic;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use shm_primitives::FileCleanup;
use vox_shm::host::guest_link_from_ticket;
use vox_shm::{HostHub, Segment, SegmentConfig, ShmLink, SizeClassConfig};

use link::{Ends, Manner};
use traffic::Traffic;

const MESSAGES: u64 = 200_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends and receives in a thread of its own; says when it is done.
fn run(
	make: impl FnOnce() -> std::io::Result<ShmLink> + Send + 'static,
	out: u64,
	back: u64,
) -> Receiver<()> {
	let (done, ends_here) = channel();

	std::thread::spawn(move || {
		let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
		runtime.expect("runtime").block_on(async {
			let Ends { tx, mut rx } = Ends::new(make().expect("link"));
			let traffic = |seed| Traffic {
				seed,
				count: MESSAGES,
				max: 16000,
				every: 0,
				large: 0,
			};
			let (there, here) = (traffic(out), traffic(back));
			let manner = Manner::default();
			let (sent, received) = tokio::join!(
				link::send_all(&tx, &there),
				link::recv_all(&mut rx, &here, manner)
			);
			sent.and(received).expect("traffic");
			let _ = done.send(());
			// An end that goes may keep the other from what it had sent.
			std::future::pending::<()>().await;
		});
	});
	ends_here
}

fn main() {
	let path = format!("/dev/shm/vox-shm-stall-{}", std::process::id());
	let size_classes = [
		SizeClassConfig { slot_size: 1024, slot_count: 16 },
		SizeClassConfig { slot_size: 16384, slot_count: 4 },
	];
	let config = SegmentConfig {
		max_guests: 1,
		bipbuf_capacity: 4096,
		max_payload_size: 65536,
		inline_threshold: 256,
		heartbeat_interval: 0,
		size_classes: &size_classes,
	};
	let segment =
		Segment::create(Path::new(&path), config, FileCleanup::Auto).expect("segment");
	let segment = Arc::new(segment);
	let guests_segment = segment.clone();
	let (give, take) = channel();
	let start = Instant::now();
	let ends = [
		run(
			move || {
				let (host, ticket) =
					HostHub::new(segment).prepare_peer()?.into_parts();
				give.send(ticket).expect("a guest");
				host.into_link()
			},
			1,
			2,
		),
		run(
			move || {
				let ticket = take.recv().expect("a ticket");
				// SAFETY: the ticket's descriptors are its own.
				unsafe { guest_link_from_ticket(guests_segment, ticket, true) }
			},
			2,
			1,
		),
	];

	for end in ends {
		match end.recv_timeout(PATIENCE) {
			Ok(()) => (),
			Err(RecvTimeoutError::Timeout) => {
				println!("both ways at once: both still wait after {PATIENCE:?}");
				return;
			}
			Err(RecvTimeoutError::Disconnected) => std::process::exit(1),
		}
	}
	println!("both ways at once: {MESSAGES} messages came right, {:.1?}", start.elapsed());
}
