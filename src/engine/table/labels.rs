//! Labels of the series in a table, for when there is no request at hand to read them from.
//!
//! Series that came one after the other have much in common, so their runs are kept in blocks of 64, compressed
//! (snappy, <https://github.com/google/snappy/blob/main/format_description.txt>): about a tenth of the bytes. Writing
//! costs one copy, and one compression for each block; reading costs unpacking the block, unless it is the one that was
//! read last. A block from which most were taken is taken apart, and the rest is written anew.

use snap::raw::{Decoder, Encoder};

use crate::series::LabelRun;

/// Runs of a block.
const BLOCK_RUNS: usize = 64;

/// A closed block with no more runs than these that are still kept is taken apart.
const SPARSE: u32 = BLOCK_RUNS as u32 / 4;

/// Where a run is kept: its block, and which of that block's runs it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) struct Place(u32);

impl Place {
    fn new(block: usize, index: usize) -> Self {
        Self((block * BLOCK_RUNS + index) as u32)
    }

    fn block(self) -> usize {
        self.0 as usize / BLOCK_RUNS
    }

    fn index(self) -> usize {
        self.0 as usize % BLOCK_RUNS
    }
}

/// Label runs of many series.
#[derive(Default, Debug)]
pub(super) struct Labels {
    blocks: Vec<Block>,
    /// Blocks that hold nothing.
    free: Vec<u32>,
    /// The block that is not closed yet, and its runs.
    open: Option<(usize, Runs)>,
    /// How many blocks were closed: no two have the same number.
    closed: u64,
}

/// A closed block, or one that is open or empty, without bytes.
#[derive(Default, Debug)]
struct Block {
    number: u64,
    packed: Box<[u8]>,
    /// Which runs are kept, one bit for each.
    kept: u64,
}

/// Runs one after the other.
#[derive(Default, Debug)]
struct Runs {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

/// Reads runs, and remembers the block that was unpacked last.
#[derive(Default, Debug)]
pub(in crate::engine) struct Reader {
    number: u64,
    runs: Runs,
    packed: Vec<u8>,
}

impl Labels {
    /// Keeps a run.
    pub(super) fn keep(&mut self, run: LabelRun<'_>) -> Place {
        let (block, mut runs) = self.open.take().unwrap_or_else(|| (self.vacant(), Runs::default()));
        let index = runs.ends.len();
        runs.bytes.extend_from_slice(run.as_bytes());
        runs.ends.push(runs.bytes.len() as u32);
        self.blocks[block].kept |= 1 << index;
        if index + 1 < BLOCK_RUNS {
            self.open = Some((block, runs));
        } else {
            self.closed += 1;
            (self.blocks[block].number, self.blocks[block].packed) = (self.closed, runs.pack());
        }
        Place::new(block, index)
    }

    /// Lets a run go. Returns the others of its block where too few are left of it: they are kept no longer, and have
    /// to be kept anew.
    pub(super) fn let_go(&mut self, place: Place) -> Vec<Box<[u8]>> {
        let number = place.block();
        let kept = self.blocks[number].kept & !(1 << place.index());
        self.blocks[number].kept = kept;
        let open = self.open.as_ref().is_some_and(|(block, _)| *block == number);
        if open || kept.count_ones() > SPARSE {
            return Vec::new();
        }
        let mut reader = Reader::default();
        let places =
            (0..BLOCK_RUNS).filter(|index| kept >> index & 1 == 1).map(|index| Place::new(number, index));
        let left = places.map(|place| self.read(place, &mut reader).as_bytes().into()).collect();
        self.blocks[number] = Block::default();
        self.free.push(number as u32);
        left
    }

    /// The run at a place where one is kept.
    pub(super) fn read<'a>(&'a self, place: Place, reader: &'a mut Reader) -> LabelRun<'a> {
        let runs = match &self.open {
            Some((block, runs)) if *block == place.block() => runs,
            _ => reader.unpacked(&self.blocks[place.block()]),
        };
        LabelRun::from_canonical(runs.get(place.index()))
    }

    fn vacant(&mut self) -> usize {
        self.free.pop().map_or_else(
            || {
                self.blocks.push(Block::default());
                self.blocks.len() - 1
            },
            |block| block as usize,
        )
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let packed: usize = self.blocks.iter().map(|block| block.packed.len()).sum();
        let open = self.open.as_ref().map_or(0, |(_, runs)| runs.bytes.capacity() + runs.ends.capacity() * 4);
        self.blocks.capacity() * size_of::<Block>() + self.free.capacity() * 4 + packed + open
    }
}

impl Runs {
    /// Ends and bytes, compressed.
    fn pack(self) -> Box<[u8]> {
        let mut plain: Vec<u8> = self.ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        plain.extend_from_slice(&self.bytes);
        Encoder::new().compress_vec(&plain).expect("64 runs are far below 4 GiB").into()
    }

    fn get(&self, index: usize) -> &[u8] {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin as usize..self.ends[index] as usize]
    }
}

impl Reader {
    fn unpacked(&mut self, block: &Block) -> &Runs {
        if self.number != block.number {
            let length = snap::raw::decompress_len(&block.packed).expect("it was packed here");
            self.packed.resize(length, 0);
            Decoder::new().decompress(&block.packed, &mut self.packed).expect("it was packed here");
            let (ends, bytes) = self.packed.split_at(BLOCK_RUNS * 4);
            let (ends, _) = ends.as_chunks();
            self.runs.ends.clear();
            self.runs.ends.extend(ends.iter().map(|&end| u32::from_le_bytes(end)));
            self.runs.bytes.clear();
            self.runs.bytes.extend_from_slice(bytes);
            self.number = block.number;
        }
        &self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: usize) -> Vec<u8> {
        format!("the run of series {number}").into_bytes()
    }

    /// Reads every run and compares.
    fn check(labels: &Labels, places: &[(usize, Place)]) {
        let mut reader = Reader::default();
        for &(number, place) in places {
            assert_eq!(labels.read(place, &mut reader).as_bytes(), run(number));
        }
    }

    #[test]
    fn runs_are_found_again_whatever_goes() {
        let mut labels = Labels::default();
        let keep = |labels: &mut Labels, number| labels.keep(LabelRun::from_canonical(&run(number)));
        let mut places: Vec<_> = (0..1000).map(|number| (number, keep(&mut labels, number))).collect();
        check(&labels, &places);
        for step in 0..2900 {
            let (_, gone) = places.swap_remove(step * 7919 % places.len());
            for left in labels.let_go(gone) {
                let number =
                    places.iter().position(|(number, _)| *run(*number) == *left).expect("it is kept");
                places[number].1 = labels.keep(LabelRun::from_canonical(&left));
            }
            if step % 3 > 0 {
                places.push((1000 + step, keep(&mut labels, 1000 + step)));
            }
        }
        // Runs whose places are another's now would be read as that one's.
        check(&labels, &places);
        assert!(places.len() < 40, "{}", places.len());
        assert!(labels.heap_bytes() < 16 << 10, "{}", labels.heap_bytes());
    }

    #[test]
    fn runs_that_have_much_in_common_take_little() {
        let mut labels = Labels::default();
        let common = "x".repeat(300);
        for number in 0..6400 {
            labels.keep(LabelRun::from_canonical(format!("{common}{number}").as_bytes()));
        }
        assert!(labels.heap_bytes() < 6400 * 60, "{}", labels.heap_bytes());
    }
}
