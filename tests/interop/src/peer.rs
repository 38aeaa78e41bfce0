// SPDX-License-Identifier: MIT
//! The commands.

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use shm_primitives::bootstrap::{
	BootstrapStatus, decode_request, encode_request, recv_response_unix, send_response_unix,
};
use shm_primitives::{FileCleanup, PeerId};
use vox_shm::bootstrap::guest_link_from_raw;
use vox_shm::{HostHub, Segment, SegmentConfig, SizeClassConfig};

use crate::link::{self, Ends};
use crate::traffic::{Traffic, Words};

#[derive(Default)]
pub struct Peer {
	segment: Option<Arc<Segment>>,
	listener: Option<UnixListener>,
	ends: Option<Ends>,
}

pub fn text(error: impl std::fmt::Display) -> String {
	error.to_string()
}

fn peer_id(words: &mut Words) -> Result<PeerId, String> {
	PeerId::new(words.number()?).ok_or("0 is no guest".to_string())
}

impl Peer {
	pub async fn obey(&mut self, line: &str) -> Result<String, String> {
		let mut words = Words::new(line);

		match words.word()? {
			"create" => self.create(&mut words),
			"attach" => self.attach(words.word()?),
			"drop" => {
				self.ends = None;
				self.segment = None;
				self.listener = None;
				Ok(String::new())
			}
			"listen" => {
				let listener = UnixListener::bind(words.word()?).map_err(text)?;
				self.listener = Some(listener);
				Ok(String::new())
			}
			"accept" => self.accept(),
			"connect" => self.connect(&mut words),
			"inherit" => self.inherit(),
			"send" => {
				let traffic = Traffic::parse(&mut words)?;
				link::send_all(&self.ends()?.tx, &traffic).await.map(text)
			}
			"recv" => {
				let traffic = Traffic::parse(&mut words)?;
				let hold = words.number()?;
				link::recv_all(&mut self.ends()?.rx, &traffic, hold)
					.await
					.map(text)
			}
			"echo" => link::echo(self.ends()?, words.number()?).await.map(text),
			"end" => self.end().await,
			_ => Err(format!("unknown command: {line}")),
		}
	}

	fn segment(&self) -> Result<&Arc<Segment>, String> {
		self.segment.as_ref().ok_or("no segment".to_string())
	}

	fn ends(&mut self) -> Result<&mut Ends, String> {
		self.ends.as_mut().ok_or("no link".to_string())
	}

	/// create PATH GUESTS CAPACITY MAX_PAYLOAD THRESHOLD HEARTBEAT {SIZE COUNT}
	fn create(&mut self, words: &mut Words) -> Result<String, String> {
		let path = words.word()?;
		let max_guests = words.number()?;
		let bipbuf_capacity = words.number()?;
		let max_payload_size = words.number()?;
		let inline_threshold = words.number()?;
		let heartbeat_interval = words.number()?;
		let mut size_classes = Vec::new();

		while let Some(size) = words.optional() {
			size_classes.push(SizeClassConfig {
				slot_size: size.parse().map_err(text)?,
				slot_count: words.number()?,
			});
		}
		let config = SegmentConfig {
			max_guests,
			bipbuf_capacity,
			max_payload_size,
			inline_threshold,
			heartbeat_interval,
			size_classes: &size_classes,
		};
		let segment = Segment::create(Path::new(path), config, FileCleanup::Manual);
		self.segment = Some(Arc::new(segment.map_err(text)?));
		Ok(String::new())
	}

	fn attach(&mut self, path: &str) -> Result<String, String> {
		self.segment = Some(Arc::new(Segment::attach(Path::new(path)).map_err(text)?));
		Ok(String::new())
	}

	/// Lets one guest in. Answer: its peer id and what it asked.
	fn accept(&mut self) -> Result<String, String> {
		let listener = self.listener.as_ref().ok_or("not listening")?;
		let (socket, _) = listener.accept().map_err(text)?;
		let frame = read_frame(&socket)?;
		let request = decode_request(&frame).map_err(text)?;
		let segment = self.segment()?.clone();
		let hub = HostHub::new(segment.clone());
		let path = segment.path().to_str().ok_or("path")?.as_bytes();
		let prepared = hub.prepare_bootstrap_success(path).map_err(text)?;

		prepared.send_success_unix(socket.as_raw_fd(), &segment)
			.map_err(text)?;
		let peer = prepared.peer_id().get();
		self.ends = Some(Ends::new(prepared.host_peer.into_link().map_err(text)?));
		Ok(format!("{peer} {}", String::from_utf8_lossy(request.sid)))
	}

	/// connect SOCKET SESSION: asks a host to be let in.
	fn connect(&mut self, words: &mut Words) -> Result<String, String> {
		use std::io::Write;

		let mut socket = UnixStream::connect(words.word()?).map_err(text)?;
		let session = words.optional().unwrap_or("");
		let request = encode_request(session.as_bytes()).map_err(text)?;

		socket.write_all(&request).map_err(text)?;
		self.join(socket.as_raw_fd())
	}

	/// Claims the ticket that voxshm_host_spawn() left in the environment.
	fn inherit(&mut self) -> Result<String, String> {
		let ticket = std::env::var("VOXSHM_TICKET").map_err(text)?;
		let fd: RawFd = ticket.parse().map_err(text)?;
		// SAFETY: the environment says that it is ours.
		let ticket = unsafe { OwnedFd::from_raw_fd(fd) };

		self.join(ticket.as_raw_fd())
	}

	/// Takes a host's response. Answer: the peer id and the segment's path.
	fn join(&mut self, socket: RawFd) -> Result<String, String> {
		let received = recv_response_unix(socket).map_err(text)?;
		let payload = String::from_utf8_lossy(&received.response.payload).into_owned();

		let Some(fds) = received.fds else {
			return Err(format!("refused: {payload}"));
		};
		let peer = u8::try_from(received.response.peer_id)
			.ok()
			.and_then(PeerId::new)
			.ok_or("no such peer id")?;
		let segment = Arc::new(Segment::attach(Path::new(&payload)).map_err(text)?);
		let control = fds.mmap_control_fd;
		let sender = control.try_clone().map_err(text)?;
		// SAFETY: the descriptors were received just now.
		let link = unsafe {
			guest_link_from_raw(
				segment.clone(),
				peer,
				fds.doorbell_fd.into_raw_fd(),
				control.into_raw_fd(),
				sender.into_raw_fd(),
				true,
			)
		};
		self.ends = Some(Ends::new(link.map_err(text)?));
		self.segment = Some(segment);
		Ok(format!("{} {payload}", peer.get()))
	}

	/// Waits for the peer's end. Answer: how it looked.
	async fn end(&mut self) -> Result<String, String> {
		match link::recv(&mut self.ends()?.rx).await {
			Ok(message) => {
				Err(format!("a message of {} bytes", message.as_bytes().len()))
			}
			Err(error) => Ok(error),
		}
	}
}

/// The bytes of a request: what it declares, or all that came before a hang-up.
fn read_frame(mut socket: &UnixStream) -> Result<Vec<u8>, String> {
	use std::io::Read;

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

#[allow(dead_code)]
fn refuse(socket: &UnixStream, reason: &str) -> Result<(), String> {
	send_response_unix(
		socket.as_raw_fd(),
		BootstrapStatus::Error,
		0,
		reason.as_bytes(),
		None,
	)
	.map_err(text)
}
