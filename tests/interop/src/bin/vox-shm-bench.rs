// SPDX-License-Identifier: MIT
//! vox-shm-bench roundtrip|rate SIZE CPU0 CPU1 MILLISECONDS - vox-shm 0.3.1
//! between two pinned processes, as a row of the benchmark (tests/bench/README.md).
//!
//! Prints one JSON object. The sender writes and the receiver reads one word of
//! each 64-byte line, in place where the crate gives a place.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_primitives::{FileCleanup, PeerId};
use vox_shm::bootstrap::guest_link_from_raw;
use vox_shm::{HostHub, Segment, SegmentConfig, ShmLink, ShmLinkRx, ShmLinkTx, SizeClassConfig};
use vox_types::{Link, LinkRx, LinkTx, LinkTxPermit, WriteSlot};

const LINE: usize = 64;
const MIB: u32 = 1 << 20;

/// The value of the last message.
const LAST: u64 = u64::MAX;
/// Round trips or messages before the clock starts.
const WARM: u64 = 200;

#[derive(Clone, Copy)]
struct Plan {
	trips: bool,
	size: usize,
	cpu: usize,
	time: Duration,
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

/// Takes a message, which holds the value or, in its place, the last one.
async fn recv(rx: &mut ShmLinkRx, size: usize, value: u64) -> bool {
	let message = rx.recv().await.expect("recv").expect("a message");
	let bytes = message.as_bytes();
	let first = u64::from_ne_bytes(bytes[..8].try_into().expect("a word"));

	assert_eq!(bytes.len(), size);
	assert!(first == value || first == LAST);
	for line in bytes.chunks(LINE).filter(|line| line.len() >= 8) {
		assert_eq!(line[..8], first.to_ne_bytes());
	}
	first != LAST
}

fn print_trips(mut trips: Vec<u64>) {
	let at = |share: f64| (trips.len() as f64 * share) as usize;
	let places = [at(0.5), at(0.99), at(0.999), trips.len() - 1];

	trips.sort_unstable();
	let [p50, p99, p999, max] = places.map(|place| trips[place]);
	println!(
		"{{\"name\": \"vox-shm 0.3.1, Rust\", \"p50_ns\": {p50}, \"p99_ns\": {p99}, \
		 \"p999_ns\": {p999}, \"max_ns\": {max}}}"
	);
}

async fn measure_trips(tx: &ShmLinkTx, rx: &mut ShmLinkRx, plan: Plan) {
	let mut trips = Vec::with_capacity(1 << 20);
	let mut start = Instant::now();
	let mut value = 0;

	while value <= WARM || start.elapsed() < plan.time {
		if value == WARM {
			start = Instant::now();
		}
		let sent = Instant::now();

		send(tx, plan.size, value).await;
		recv(rx, plan.size, value).await;
		if value >= WARM {
			trips.push(sent.elapsed().as_nanos() as u64);
		}
		value += 1;
	}
	send(tx, plan.size, LAST).await;
	recv(rx, plan.size, LAST).await;
	print_trips(trips);
}

/// Ends when the receiver says that it has all.
async fn measure_rate(tx: &ShmLinkTx, rx: &mut ShmLinkRx, plan: Plan) {
	let mut start = Instant::now();
	let mut value = 0;

	while value <= WARM || start.elapsed() < plan.time {
		if value == WARM {
			start = Instant::now();
		}
		send(tx, plan.size, value).await;
		value += 1;
	}
	send(tx, plan.size, LAST).await;
	recv(rx, plan.size, LAST).await;
	println!(
		"{{\"name\": \"vox-shm 0.3.1, Rust\", \"messages_per_second\": {}}}",
		(value - WARM) as f64 / start.elapsed().as_secs_f64()
	);
}

/// The parent's side. The other one goes when it has been told that this one has all.
async fn measure(link: ShmLink, plan: Plan) {
	let (tx, mut rx) = link.split();

	if plan.trips {
		measure_trips(&tx, &mut rx, plan).await;
	} else {
		measure_rate(&tx, &mut rx, plan).await;
	}
	send(&tx, plan.size, LAST).await;
}

async fn answer(link: ShmLink, plan: Plan) {
	let (tx, mut rx) = link.split();
	let mut value = 0;

	while recv(&mut rx, plan.size, value).await {
		if plan.trips {
			send(&tx, plan.size, value).await;
		}
		value += 1;
	}
	send(&tx, plan.size, LAST).await;
	recv(&mut rx, plan.size, LAST).await;
}

fn number<T: std::str::FromStr>(position: usize) -> T {
	std::env::args().nth(position).and_then(|word| word.parse().ok()).unwrap_or_else(|| {
		eprintln!("usage: vox-shm-bench roundtrip|rate SIZE CPU0 CPU1 MILLISECONDS");
		std::process::exit(2)
	})
}

/// The same arguments, then PATH PEER DOORBELL RECEIVER SENDER.
async fn guest(plan: Plan) {
	// SAFETY: no memory is involved. The host may be killed when it takes too long.
	unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
	let path: String = number(6);
	let segment = Arc::new(Segment::attach(Path::new(&path)).expect("segment"));
	let peer = PeerId::new(number(7)).expect("peer");
	// SAFETY: the parent left these descriptors to this process.
	let link = unsafe {
		guest_link_from_raw(segment, peer, number(8), number(9), number(10), true)
	};

	answer(link.expect("link"), plan).await;
}

async fn host(plan: Plan) {
	let path = format!("/dev/shm/vox-shm-bench-{}", std::process::id());
	// As the other rows have them, with room for the length that the crate puts into a slot.
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
	let is_guest = std::env::args().len() > 6;
	let job: String = number(1);
	let plan = Plan {
		trips: job == "roundtrip",
		size: number(2),
		cpu: number(if is_guest { 4 } else { 3 }),
		time: Duration::from_millis(number(5)),
	};
	if plan.size < 8 || plan.size > MIB as usize {
		println!("{{\"unsupported\": \"from 8 bytes to 1 MiB\"}}");
		return;
	}
	let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();

	pin(plan.cpu);
	let runtime = runtime.expect("runtime");
	if is_guest {
		runtime.block_on(guest(plan));
	} else {
		runtime.block_on(host(plan));
	}
}
