// SPDX-License-Identifier: MIT
//! vox-shm-peer - the crate vox-shm 0.3.1 as the other end of a test.
//!
//! It does what the C programs beside it tell it over a socket, the number of
//! whose descriptor is the first argument: a command is a line, and so is its
//! answer, which begins with "ok" or "error". It holds one segment and one end
//! of a link at a time, as host or as guest. Everything is done through the
//! public interface of the published crates.

mod bootstrap;
mod link;
mod peer;
mod segment;
mod traffic;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

use peer::Peer;

fn main() {
	let fd = std::env::args().nth(1).and_then(|word| word.parse().ok());
	let Some(fd) = fd else {
		eprintln!("usage: vox-shm-peer DESCRIPTOR");
		std::process::exit(2);
	};
	// SAFETY: whoever started this program left the descriptor to it.
	let mut socket = unsafe { UnixStream::from_raw_fd(fd) };
	let lines = BufReader::new(socket.try_clone().expect("copy of the socket")).lines();
	let runtime = tokio::runtime::Builder::new_current_thread()
		.enable_all()
		.build()
		.expect("runtime");
	let mut peer = Peer::default();

	for line in lines {
		let Ok(line) = line else { break };
		let answer = match runtime.block_on(peer.obey(&line)) {
			Ok(text) => format!("ok {text}"),
			Err(text) => format!("error {text}"),
		};
		if writeln!(socket, "{}", answer.trim_end().replace('\n', " ")).is_err() {
			break;
		}
	}
}
