// SPDX-License-Identifier: MIT
//! Messages whose sizes and bytes both sides compute from a seed; traffic.h is
//! the same in C.

use std::str::FromStr;

/// Words of a command, taken one by one.
pub struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
	pub fn new(line: &'a str) -> Self {
		Self(line.split_whitespace())
	}

	pub fn word(&mut self) -> Result<&'a str, String> {
		self.0.next().ok_or("a word is missing".to_string())
	}

	pub fn number<T: FromStr>(&mut self) -> Result<T, String> {
		let word = self.word()?;
		word.parse().map_err(|_| format!("not such a number: {word}"))
	}

	pub fn optional(&mut self) -> Option<&'a str> {
		self.0.next()
	}

	pub fn rest(&mut self) -> String {
		self.0.by_ref().collect::<Vec<_>>().join(" ")
	}
}

pub fn mix(value: u64) -> u64 {
	let mut value = value.wrapping_add(0x9e3779b97f4a7c15);
	value = (value ^ value >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27).wrapping_mul(0x94d049bb133111eb);
	value ^ value >> 31
}

/// `count` messages of up to `max` bytes. Each `every` one (0: none) is larger,
/// the first of these exactly `large` bytes; 1: all are.
#[derive(Clone, Copy)]
pub struct Traffic {
	pub seed: u64,
	pub count: u64,
	pub max: u64,
	pub every: u64,
	pub large: u64,
}

impl Traffic {
	pub fn parse(words: &mut Words) -> Result<Self, String> {
		Ok(Self {
			seed: words.number()?,
			count: words.number()?,
			max: words.number()?,
			every: words.number()?,
			large: words.number()?,
		})
	}

	pub fn size(&self, index: u64) -> usize {
		let random = mix(!self.seed.wrapping_add(index));
		let kind = random % 1000;
		let random = random >> 32;

		let size = if self.every != 0 && index % self.every == self.every - 1 {
			if index / self.every == 0 || self.every == 1 {
				self.large
			} else {
				self.max + 1 + random % (1 << 20).min(self.large - self.max)
			}
		} else if kind < 700 {
			(random % 65).min(self.max)
		} else if kind < 940 {
			random % (self.max.min(1200) + 1)
		} else {
			random % (self.max + 1)
		};
		size as usize
	}

	fn words(&self, index: u64) -> impl Iterator<Item = [u8; 8]> {
		let mut word = mix(self.seed.wrapping_add(index));
		std::iter::from_fn(move || {
			let bytes = word.to_le_bytes();
			word = word.wrapping_mul(5).wrapping_add(0x2545f4914f6cdd1d);
			Some(bytes)
		})
	}

	pub fn fill(&self, index: u64, data: &mut [u8]) {
		for (chunk, word) in data.chunks_mut(8).zip(self.words(index)) {
			chunk.copy_from_slice(&word[..chunk.len()]);
		}
	}

	/// Are these the bytes of that message?
	pub fn check(&self, index: u64, data: &[u8]) -> Result<(), String> {
		if data.len() != self.size(index) {
			return Err(format!(
				"message {index} has {} bytes, not {}",
				data.len(),
				self.size(index)
			));
		}
		for (at, (chunk, word)) in data.chunks(8).zip(self.words(index)).enumerate() {
			if chunk != &word[..chunk.len()] {
				return Err(format!(
					"message {index} is damaged at byte {}",
					at * 8
				));
			}
		}
		Ok(())
	}
}

/// A checksum over the bytes and bounds of messages, in order.
#[derive(Default)]
pub struct Digest {
	hash: u64,
	messages: u64,
	bytes: u64,
}

impl Digest {
	pub fn add(&mut self, data: &[u8]) {
		self.hash = mix(self.hash ^ data.len() as u64);
		for chunk in data.chunks(8) {
			let mut word = [0u8; 8];
			word[..chunk.len()].copy_from_slice(chunk);
			self.hash = (self.hash ^ u64::from_le_bytes(word))
				.wrapping_mul(0x9e3779b97f4a7c15)
				.rotate_left(29);
		}
		self.messages += 1;
		self.bytes += data.len() as u64;
	}
}

impl std::fmt::Display for Digest {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		write!(f, "{} messages {} bytes {:016x}", self.messages, self.bytes, self.hash)
	}
}

/// An answer, of whatever can be written.
pub fn text(thing: impl std::fmt::Display) -> String {
	thing.to_string()
}
