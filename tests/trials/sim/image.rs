//! One file: what is seen of it, and what of it would outlive a loss of power.

use std::collections::BTreeSet;

use super::dice::Dice;

/// What a disk writes whole or not at all.
const BLOCK_BYTES: usize = 512;

#[derive(Default, Debug)]
pub(super) struct Image {
    /// As whoever reads it sees it.
    pub(super) seen: Vec<u8>,
    /// As it is on the platter; its size is another matter.
    durable: Vec<u8>,
    /// Blocks that the system has still to write.
    dirty: BTreeSet<usize>,
    /// Size when it was last synced, and all that it had since.
    sizes: Vec<usize>,
}

impl Image {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let from = self.seen.len();
        self.seen.extend_from_slice(bytes);
        self.changed(from, self.seen.len());
    }

    pub(super) fn truncate(&mut self, size: usize) {
        let before = self.seen.len();
        self.seen.resize(size, 0);
        let from = size.min(before);
        // The rest of the last block is filled with zeros; whole blocks behind it are only let go.
        self.changed(from, size.max(before).min(from.next_multiple_of(BLOCK_BYTES)).max(size));
    }

    /// The system writes some of the blocks of its own accord.
    pub(super) fn write_back(&mut self, dice: &mut Dice) {
        let one_in = 1 + dice.below(4);
        let written: Vec<usize> = self.dirty.iter().copied().filter(|_| dice.once_in(one_in)).collect();
        for block in written {
            self.dirty.remove(&block);
            self.write(block);
        }
    }

    pub(super) fn sync(&mut self) {
        for block in std::mem::take(&mut self.dirty) {
            self.write(block);
        }
        self.durable.resize(self.seen.len(), 0);
        self.sizes = vec![self.seen.len()];
    }

    /// A sync that fails: blocks that could not be written count as clean from then on, so that no later sync
    /// writes them. What was there before may be seen again, as if they had been let go and read anew.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        let evicts = dice.once_in(2);
        for block in std::mem::take(&mut self.dirty) {
            match dice.below(3) {
                0 => self.write(block),
                1 if evicts => self.read_anew(block),
                _ => {}
            }
        }
    }

    /// Each block that was not yet written is, or is not; the size is any that it had since it was synced.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        let survives = dice.below(5);
        for block in std::mem::take(&mut self.dirty) {
            if dice.below(4) < survives {
                self.write(block);
            }
        }
        let size = self.size_on_platter(dice);
        self.durable.resize(size, 0);
        self.seen.clone_from(&self.durable);
        self.sizes = vec![size];
    }

    fn size_on_platter(&self, dice: &mut Dice) -> usize {
        let (Some(oldest), Some(newest)) = (self.sizes.first(), self.sizes.last()) else { return 0 };
        let any = self.sizes[dice.below(self.sizes.len())];
        match dice.below(4) {
            0 => *oldest,
            1 => *newest,
            2 => any,
            // A long write may have grown the file in several steps.
            _ => (any / BLOCK_BYTES * BLOCK_BYTES).max(*self.sizes.iter().min().unwrap_or(&0)),
        }
    }

    fn changed(&mut self, from: usize, to: usize) {
        if self.sizes.is_empty() {
            self.sizes.push(0);
        }
        self.sizes.push(self.seen.len());
        self.dirty.extend(from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES));
    }

    fn write(&mut self, block: usize) {
        let (from, to) = (block * BLOCK_BYTES, ((block + 1) * BLOCK_BYTES).min(self.seen.len()));
        if from < to {
            self.durable.resize(self.durable.len().max(to), 0);
            self.durable[from..to].copy_from_slice(&self.seen[from..to]);
            let end = self.durable.len().min((block + 1) * BLOCK_BYTES);
            self.durable[to..end].fill(0);
        }
    }

    fn read_anew(&mut self, block: usize) {
        let (from, to) = (block * BLOCK_BYTES, ((block + 1) * BLOCK_BYTES).min(self.seen.len()));
        for at in from..to {
            self.seen[at] = self.durable.get(at).copied().unwrap_or(0);
        }
    }
}
