// SPDX-License-Identifier: MIT
//! A segment piece by piece: peers, layout, and traffic through bare rings,
//! without a link.

use shm_primitives::{BipBuf, MmapRegion, PeerId, PeerState};
use vox_shm::framing::{self, OwnedFrame};
use vox_shm::peer_table::bipbuf_single_stride;
use vox_shm::{Segment, SegmentLayout, SizeClassConfig, VarSlotPool};

use crate::traffic::{Digest, Traffic, Words};

/// Spins, and now and then lets others run.
fn pause(tries: &mut u32) {
	*tries = tries.wrapping_add(1);
	match *tries % 256 {
		0 => std::thread::yield_now(),
		_ => std::hint::spin_loop(),
	}
}

const PREFIX: usize = 4;

fn peer_id(words: &mut Words) -> Result<PeerId, String> {
	PeerId::new(words.number()?).ok_or("0 is no guest".to_string())
}

/// A command about a segment; None: it is not one.
pub fn obey(segment: &Segment, command: &str, words: &mut Words) -> Option<Result<String, String>> {
	Some(match command {
		"reserve_peer" => found(segment.reserve_peer()),
		"attach_peer" => found(segment.attach_peer()),
		"claim_peer" => peer_id(words).and_then(|peer| {
			let claimed = segment.claim_peer(peer);
			claimed.map(|()| String::new()).map_err(|state| format!("is {state:?}"))
		}),
		"release_peer" => peer_id(words).map(|peer| {
			segment.release_reserved_peer(peer);
			String::new()
		}),
		"detach_peer" => peer_id(words).map(|peer| {
			segment.detach_peer(peer);
			String::new()
		}),
		"recover_peer" => peer_id(words).map(|peer| {
			segment.recover_crashed_peer(peer);
			String::new()
		}),
		"peer" => peer_id(words).map(|peer| describe_peer(segment, peer)),
		"beat" => peer_id(words).and_then(|peer| {
			segment.peer_table().entry(peer).update_heartbeat(words.number()?);
			Ok(String::new())
		}),
		"is_stale" => peer_id(words).and_then(|peer| {
			Ok(segment.is_peer_heartbeat_stale(peer, words.number()?).to_string())
		}),
		"goodbye" => {
			segment.set_host_goodbye();
			Ok(String::new())
		}
		"is_goodbye" => Ok(segment.header().host_goodbye().to_string()),
		"header" => Ok(describe_header(segment)),
		"layout" => describe_layout(segment),
		"ring" => peer_id(words).map(|peer| describe_rings(segment, peer)),
		"produce" => produce(segment, words),
		"consume" => consume(segment, words),
		_ => return None,
	})
}

fn found(peer: Option<PeerId>) -> Result<String, String> {
	peer.map(|peer| peer.get().to_string()).ok_or("no free peer slot".to_string())
}

fn describe_peer(segment: &Segment, peer: PeerId) -> String {
	let entry = segment.peer_table().entry(peer);
	let state = match entry.state() {
		PeerState::Empty => "empty",
		PeerState::Attached => "attached",
		PeerState::Goodbye => "goodbye",
		PeerState::Reserved => "reserved",
	};
	format!("{state} epoch {} heartbeat {}", entry.epoch(), entry.last_heartbeat())
}

fn classes(segment: &Segment) -> Result<Vec<SizeClassConfig>, String> {
	let header = segment.header();
	let mapped = MmapRegion::attach(segment.path()).map_err(|error| error.to_string())?;
	let pool = header.var_pool_offset as usize;
	// SAFETY: the segment is mapped, and attaching to it has checked the header.
	let classes = unsafe {
		VarSlotPool::discover_configs(mapped.region(), pool, header.num_var_slot_classes)
	};
	Ok(classes?)
}

fn describe_header(segment: &Segment) -> String {
	let header = segment.header();
	format!(
		"magic {} version {} header_size {} total_size {} max_payload {} threshold {} \
		 max_guests {} capacity {} peer_table {} pool {} heartbeat {} classes {} current_size {}",
		u64::from_le_bytes(header.magic),
		header.version,
		header.header_size,
		header.total_size,
		header.max_payload_size,
		header.effective_inline_threshold(),
		header.max_guests,
		header.bipbuf_capacity,
		header.peer_table_offset,
		header.var_pool_offset,
		header.heartbeat_interval,
		header.num_var_slot_classes,
		header.current_size(),
	)
}

/// What the crate computes from the numbers that the header gives.
fn describe_layout(segment: &Segment) -> Result<String, String> {
	let classes = classes(segment)?;
	let header = segment.header();
	let layout =
		SegmentLayout::compute(header.max_guests as u8, header.bipbuf_capacity, &classes);
	let mut text = format!(
		"peer_table {} rings {} stride {} pool {} end {}",
		layout.peer_table_offset,
		layout.ring_base_offset,
		bipbuf_single_stride(header.bipbuf_capacity),
		layout.var_pool_offset,
		layout.total_size,
	);
	for (class, offsets) in classes.iter().zip(VarSlotPool::layout(&classes).class_offsets) {
		text += &format!(
			" class {} {} at {} {}",
			class.slot_size,
			class.slot_count,
			layout.var_pool_offset + offsets.meta_offset,
			layout.var_pool_offset + offsets.data_offset,
		);
	}
	Ok(text)
}

fn describe_rings(segment: &Segment, peer: PeerId) -> String {
	format!(
		"at {} capacity {} {}",
		segment.peer_table().entry(peer).ring_offset,
		segment.g2h_bipbuf(peer).capacity(),
		segment.h2g_bipbuf(peer).capacity(),
	)
}

/// The ring that a command names: "up" is from guest to host, "down" the other.
fn ring(segment: &Segment, words: &mut Words) -> Result<(BipBuf, PeerId, bool), String> {
	let up = words.word()? == "up";
	let peer = peer_id(words)?;
	let ring = if up { segment.g2h_bipbuf(peer) } else { segment.h2g_bipbuf(peer) };
	Ok((ring, peer, up))
}

/// produce DIRECTION PEER TRAFFIC: what fits an entry of the ring goes inline.
fn produce(segment: &Segment, words: &mut Words) -> Result<String, String> {
	let (ring, peer, up) = ring(segment, words)?;
	let traffic = Traffic::parse(words)?;
	let owner = if up { peer.get() } else { 0 };
	let (mut producer, _) = ring.split();
	let mut digest = Digest::default();
	let mut tries = 0;
	let mut copy = Vec::new();

	for index in 0..traffic.count {
		copy.resize(traffic.size(index), 0);
		traffic.fill(index, &mut copy);
		digest.add(&copy);
		if copy.len() <= segment.header().effective_inline_threshold() as usize {
			while framing::write_inline(&mut producer, &copy).is_err() {
				pause(&mut tries);
			}
			continue;
		}
		let slot = loop {
			match segment.var_pool().allocate((PREFIX + copy.len()) as u32, owner) {
				Some(slot) => break slot,
				None => pause(&mut tries),
			}
		};
		// SAFETY: the slot was allocated just now, and nobody else knows it.
		let data = unsafe { segment.var_pool().slot_data_mut(&slot) };
		data[..PREFIX].copy_from_slice(&(copy.len() as u32).to_le_bytes());
		data[PREFIX..PREFIX + copy.len()].copy_from_slice(&copy);
		while framing::write_slot_ref(&mut producer, &slot).is_err() {
			pause(&mut tries);
		}
	}
	Ok(digest.to_string())
}

/// consume DIRECTION PEER TRAFFIC
fn consume(segment: &Segment, words: &mut Words) -> Result<String, String> {
	let (ring, ..) = ring(segment, words)?;
	let traffic = Traffic::parse(words)?;
	let (_, mut consumer) = ring.split();
	let mut digest = Digest::default();
	let mut tries = 0;

	for index in 0..traffic.count {
		let frame = loop {
			match framing::read_frame(&mut consumer) {
				Some(frame) => break frame,
				None => pause(&mut tries),
			}
		};
		match frame {
			OwnedFrame::Inline(bytes) => {
				traffic.check(index, &bytes)?;
				digest.add(&bytes);
			}
			OwnedFrame::SlotRef(slot) => {
				// SAFETY: the producer gave it to us with the frame.
				let data = unsafe { segment.var_pool().slot_data(&slot) };
				let size = u32::from_le_bytes([data[0], data[1], data[2], data[3]]);
				let bytes = data
					.get(PREFIX..PREFIX + size as usize)
					.ok_or(format!("message {index} does not fit its slot"))?;
				traffic.check(index, bytes)?;
				digest.add(bytes);
				segment.var_pool()
					.free(slot)
					.map_err(|error| format!("{error:?}"))?;
			}
			OwnedFrame::MmapRef(_) => return Err("a mapping".to_string()),
		}
	}
	Ok(digest.to_string())
}
