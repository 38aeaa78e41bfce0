// SPDX-License-Identifier: MIT
//! Letting guests in, and being let in, over a UNIX socket.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use shm_primitives::PeerId;
use shm_primitives::bootstrap::{
	BootstrapStatus, decode_request, encode_request, recv_response_unix, send_response_unix,
};
use vox_shm::bootstrap::guest_link_from_raw;
use vox_shm::{HostHub, Segment, ShmLink};

use crate::traffic::text;

/// Where a host of the crate lets guests in.
pub struct Door(UnixListener);

impl Door {
	pub fn new(path: &str) -> Result<Self, String> {
		UnixListener::bind(path).map(Self).map_err(text)
	}

	/// The next caller, and its request. A malformed one is told why.
	fn caller(&self) -> Result<(UnixStream, String), String> {
		let (mut socket, _) = self.0.accept().map_err(text)?;
		let frame = read_request(&mut socket)?;

		match decode_request(&frame) {
			Ok(request) => {
				let session = String::from_utf8_lossy(request.sid).into_owned();
				Ok((socket, session))
			}
			Err(error) => {
				send_error(&socket, 0, &error.to_string())?;
				Err(error.to_string())
			}
		}
	}

	/// Lets one guest in. Return: its link; its peer id and what it asked.
	pub fn accept(&self, segment: &Arc<Segment>) -> Result<(ShmLink, String), String> {
		let (socket, session) = self.caller()?;
		let path = segment.path().to_str().ok_or("path")?.as_bytes();
		let hub = HostHub::new(segment.clone());
		let prepared = match hub.prepare_bootstrap_success(path) {
			Ok(prepared) => prepared,
			Err(error) => {
				send_error(&socket, 0, &error.to_string())?;
				return Err(error.to_string());
			}
		};
		let peer = prepared.peer_id().get();

		prepared.send_success_unix(socket.as_raw_fd(), segment).map_err(text)?;
		// What of the guest's descriptors the crate leaves open.
		// SAFETY: nobody else closes this one.
		drop(unsafe { OwnedFd::from_raw_fd(prepared.guest_ticket.mmap_tx_fd) });
		let link = prepared.host_peer.into_link().map_err(text)?;
		Ok((link, format!("{peer} {session}")))
	}

	/// Says no, as one that knows its words (peer id 0) or does not.
	pub fn refuse(&self, peer: u32, reason: &str) -> Result<String, String> {
		let (socket, session) = self.caller()?;
		send_error(&socket, peer, reason)?;
		Ok(session)
	}

	/// Answers with bytes, given in hexadecimal.
	pub fn answer(&self, bytes: &str) -> Result<String, String> {
		let (mut socket, session) = self.caller()?;
		socket.write_all(&unhex(bytes)?).map_err(text)?;
		Ok(session)
	}
}

fn send_error(socket: &UnixStream, peer: u32, reason: &str) -> Result<(), String> {
	let reason = reason.as_bytes();
	send_response_unix(socket.as_raw_fd(), BootstrapStatus::Error, peer, reason, None)
		.map_err(text)
}

/// The bytes of a request: what it declares, or all that came before a hang-up.
fn read_request(socket: &mut UnixStream) -> Result<Vec<u8>, String> {
	let mut frame = Vec::new();
	let mut bytes = [0u8; 4096];

	loop {
		let size = socket.read(&mut bytes).map_err(text)?;
		frame.extend_from_slice(&bytes[..size]);
		let declared = match frame.get(4..6) {
			Some(length) => 6 + u16::from_le_bytes([length[0], length[1]]) as usize,
			None => usize::MAX,
		};
		if size == 0 || frame.len() >= declared {
			return Ok(frame);
		}
	}
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
	(0..text.len())
		.step_by(2)
		.map(|at| {
			let byte = text.get(at..at + 2).ok_or("half a byte")?;
			u8::from_str_radix(byte, 16).map_err(|error| error.to_string())
		})
		.collect()
}

/// A guest of some host.
pub struct Guest {
	pub id: PeerId,
	pub segment: Arc<Segment>,
	pub link: ShmLink,
}

/// Asks a host to be let in.
pub fn connect(address: &str, session: &str) -> Result<Guest, String> {
	send_request(address, &encode_request(session.as_bytes()).map_err(text)?)
}

/// Sends bytes instead, given in hexadecimal.
pub fn request(address: &str, bytes: &str) -> Result<Guest, String> {
	send_request(address, &unhex(bytes)?)
}

fn send_request(address: &str, bytes: &[u8]) -> Result<Guest, String> {
	let mut socket = UnixStream::connect(address).map_err(text)?;
	socket.write_all(bytes).map_err(text)?;
	join(socket.as_raw_fd())
}

/// Claims the ticket that voxshm_host_spawn() left in the environment.
pub fn inherit() -> Result<Guest, String> {
	let ticket = std::env::var("VOXSHM_TICKET").map_err(text)?;
	let fd: RawFd = ticket.parse().map_err(text)?;
	// SAFETY: the environment says that it is ours.
	let ticket = unsafe { OwnedFd::from_raw_fd(fd) };

	join(ticket.as_raw_fd())
}

/// Takes a host's response, and attaches to the segment at the path in it.
fn join(socket: RawFd) -> Result<Guest, String> {
	let received = recv_response_unix(socket).map_err(text)?;
	let payload = String::from_utf8_lossy(&received.response.payload).into_owned();

	let Some(fds) = received.fds else {
		return Err(format!("refused: {payload}"));
	};
	let id = u8::try_from(received.response.peer_id).ok().and_then(PeerId::new);
	let id = id.ok_or("no such peer id")?;
	let segment = Arc::new(Segment::attach(Path::new(&payload)).map_err(text)?);
	let control = fds.mmap_control_fd;
	let sender = control.try_clone().map_err(text)?;
	// SAFETY: the descriptors were received just now.
	let link = unsafe {
		guest_link_from_raw(
			segment.clone(),
			id,
			fds.doorbell_fd.into_raw_fd(),
			control.into_raw_fd(),
			sender.into_raw_fd(),
			true,
		)
	};
	Ok(Guest { id, segment, link: link.map_err(text)? })
}
