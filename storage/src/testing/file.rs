//! The bytes of one file of a [`super::MemoryDisk`]: what readers see, and what a power cut leaves.

use std::collections::BTreeSet;

use super::SeededEntropy;
use super::disk::Loss;

/// Bytes that a device writes at once.
pub(crate) const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    /// What a read gives.
    pub(crate) seen: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(crate) fn durable(bytes: &[u8]) -> Self {
        Self { seen: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.seen.len() < end {
            self.set_len(end);
        }
        self.seen[at..end].copy_from_slice(bytes);
        self.touch(at, end);
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        let before = self.seen.len();
        self.seen.resize(len, 0);
        self.touch(before.min(len), before.max(len));
    }

    pub(crate) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.store(sector);
        }
        self.durable.resize(self.seen.len(), 0);
    }

    /// A sync that failed the way Linux lets it fail: the pages count as clean, but were never
    /// written, and no later sync will write them.
    pub(crate) fn sync_and_fail(&mut self) {
        self.dirty.clear();
    }

    pub(crate) fn power_cut(&mut self, loss: Loss, random: &SeededEntropy) {
        let dirty = std::mem::take(&mut self.dirty);
        let ends = (dirty.first().copied(), dirty.last().copied());
        for sector in dirty {
            let keeps = loss.keeps(random);
            let is_kept = match loss {
                Loss::Torn(_) if ends.0 == ends.1 => keeps,
                Loss::Torn(_) if ends.0 == Some(sector) => true,
                Loss::Torn(_) if ends.1 == Some(sector) => false,
                _ => keeps,
            };
            if is_kept {
                self.store(sector);
            }
        }
        self.seen = self.durable.clone();
    }

    /// Changes one bit for good, as a failing medium does.
    pub(crate) fn flip(&mut self, at: usize, bit: u8) {
        for bytes in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }

    fn touch(&mut self, from: usize, to: usize) {
        if from < to {
            self.dirty.extend(from / SECTOR..=(to - 1) / SECTOR);
        }
    }

    fn store(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.seen.len());
        if from < to {
            if self.durable.len() < to {
                self.durable.resize(to, 0);
            }
            self.durable[from..to].copy_from_slice(&self.seen[from..to]);
        }
    }
}
