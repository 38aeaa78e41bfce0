// SPDX-License-Identifier: MIT
//! The commands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shm_primitives::{FileCleanup, PeerId};
use vox_shm::{Segment, SegmentConfig, SizeClassConfig};

use crate::bootstrap::{self, Door};
use crate::link::{self, Ends, Manner};
use crate::segment;
use crate::traffic::{Traffic, Words, text};

#[derive(Default)]
pub struct Peer {
	segment: Option<Arc<Segment>>,
	door: Option<Door>,
	ends: Option<Ends>,
	/// Ours, as a guest.
	id: Option<PeerId>,
}

impl Peer {
	pub async fn obey(&mut self, line: &str) -> Result<String, String> {
		let mut words = Words::new(line);
		let command = words.word()?;

		if let Some(segment) = &self.segment
			&& let Some(answer) = segment::obey(segment, command, &mut words)
		{
			return answer;
		}
		match command {
			"create" => self.create(&mut words),
			"attach" => self.attach(words.word()?),
			"detach" => Ok(self.detach()),
			"grow" => {
				let segment = self.segment.as_mut().and_then(Arc::get_mut);
				let segment = segment.ok_or("a link uses the segment")?;
				segment.grow_segment(words.number()?).map_err(text)?;
				Ok(String::new())
			}
			"remap" => {
				let segment = self.segment.as_mut().and_then(Arc::get_mut);
				let segment = segment.ok_or("a link uses the segment")?;
				segment.check_and_remap().map(text).map_err(text)
			}
			"sleep" => {
				tokio::time::sleep(Duration::from_millis(words.number()?)).await;
				Ok(String::new())
			}
			"listen" | "accept" | "refuse" | "answer" => self.host(command, &mut words),
			"connect" | "request" | "inherit" => self.guest(command, &mut words),
			_ => self.link(command, &mut words).await,
		}
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

	/// Lets go of link and segment, and says nothing of it.
	fn detach(&mut self) -> String {
		self.ends = None;
		self.segment = None;
		String::new()
	}

	fn host(&mut self, command: &str, words: &mut Words) -> Result<String, String> {
		if command == "listen" {
			self.door = Some(Door::new(words.word()?)?);
			return Ok(String::new());
		}
		let door = self.door.as_ref().ok_or("not listening")?;
		match command {
			"accept" => {
				let segment = self.segment.as_ref().ok_or("no segment")?;
				let (link, session) = door.accept(segment)?;
				self.ends = Some(Ends::new(link));
				Ok(session)
			}
			"refuse" => door.refuse(words.number()?, &words.rest()),
			_ => door.answer(words.word()?),
		}
	}

	fn guest(&mut self, command: &str, words: &mut Words) -> Result<String, String> {
		let guest = match command {
			"connect" => {
				bootstrap::connect(words.word()?, words.optional().unwrap_or(""))?
			}
			"request" => bootstrap::request(words.word()?, words.word()?)?,
			_ => bootstrap::inherit()?,
		};
		let answer = format!("{} {}", guest.id.get(), guest.segment.path().display());

		self.segment = Some(guest.segment);
		self.ends = Some(Ends::new(guest.link));
		self.id = Some(guest.id);
		Ok(answer)
	}

	async fn link(&mut self, command: &str, words: &mut Words<'_>) -> Result<String, String> {
		let ends = self.ends.as_mut().ok_or(format!("no link for: {command}"))?;

		match command {
			"send" => link::send_all(&ends.tx, &Traffic::parse(words)?).await.map(text),
			"fill" => link::fill(&ends.tx, &Traffic::parse(words)?).await,
			"recv" => {
				let traffic = Traffic::parse(words)?;
				link::recv_all(&mut ends.rx, &traffic, manner(words)?)
					.await
					.map(text)
			}
			"both" => {
				let (out, back) = (Traffic::parse(words)?, Traffic::parse(words)?);
				let recv = link::recv_all(&mut ends.rx, &back, manner(words)?);
				let (sent, received) =
					tokio::join!(link::send_all(&ends.tx, &out), recv);
				match (sent, received) {
					(Ok(sent), Ok(received)) => {
						Ok(format!("{sent}, {received}"))
					}
					(sent, received) => Err(format!(
						"sending: {}, receiving: {}",
						sent.map_or_else(|error| error, text),
						received.map_or_else(|error| error, text)
					)),
				}
			}
			"echo" => link::echo(ends, words.number()?).await.map(text),
			"end" => match link::recv(&mut ends.rx).await {
				Ok(message) => {
					Err(format!("{} bytes came", message.as_bytes().len()))
				}
				Err(error) => Ok(error),
			},
			"counts" => {
				let (tx, rx) = (ends.tx.stats(), ends.rx.stats());
				Ok(format!(
					"sent {} {} {} received {} {} {}",
					tx.inline_sends,
					tx.slot_ref_sends,
					tx.mmap_ref_sends,
					rx.inline_recvs,
					rx.slot_ref_recvs,
					rx.mmap_ref_recvs
				))
			}
			"leave" => {
				let (segment, id) = (self.segment.as_ref(), self.id.take());
				segment.ok_or("no segment")?.detach_peer(id.ok_or("no guest")?);
				Ok(self.detach())
			}
			_ => Err(format!("unknown command: {command}")),
		}
	}
}

fn manner(words: &mut Words) -> Result<Manner, String> {
	let (hold, pause) = (words.number()?, words.number()?);
	let from = words.optional().map_or(Ok(0), str::parse).map_err(text)?;
	Ok(Manner { hold, pause, from })
}
