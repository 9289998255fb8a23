//! Rows of three whole numbers, packed: of each column only how far it is above its least, in as few bits as that needs.
//!
//! A number that does not fit makes its column wider, and all rows are written anew.

use serde::{Deserialize, Serialize};

/// One number for each column.
pub(super) type Row = [i64; 3];

/// No number is greater, above or below zero, so that none is read from more than eight bytes.
pub(super) const NUMBER_MAX: i64 = 1 << 54;

const WIDTH_MAX: u8 = 56;

/// Room is made for so many rows of [`FEW_BITS`], then for as many as there may be: hours come to all series at once, and
/// what each leaves behind as it grows is of use to none.
const FEW: usize = 8;
const FEW_BITS: usize = 64;

/// By so many bits rows may become wider where they stand.
const SPARE_BITS: usize = 2;

/// No more than [`HOURS`](super::HOURS) rows.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Rows {
    least: Row,
    /// Bits of each column.
    widths: [u8; 3],
    len: u8,
    bytes: Vec<u8>,
}

impl Rows {
    /// Holds `rows`, with numbers within [`NUMBER_MAX`], instead of its own. What bits a column has to spare go to both of
    /// its ends.
    pub(super) fn pack(&mut self, rows: &[Row]) {
        self.len = rows.len() as u8;
        for column in 0..3 {
            let numbers = rows.iter().map(|row| row[column]);
            let least = numbers.clone().min().unwrap_or_default();
            let range = (numbers.max().unwrap_or_default() - least) as u64;
            let width = u64::BITS - range.leading_zeros();
            self.widths[column] = width as u8;
            self.least[column] = least - ((mask(width) - range) / 2) as i64;
        }
        self.bytes.clear();
        self.resize();
        rows.iter().enumerate().for_each(|(place, &row)| self.write(place, row));
    }

    pub(super) fn len(&self) -> usize {
        self.len.into()
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// The row at `place`, which is below [`Self::len`].
    pub(super) fn get(&self, place: usize) -> Row {
        let mut at = place * self.bits();
        std::array::from_fn(|column| {
            let width = self.widths[column];
            let number = read(&self.bytes, at, width);
            at += usize::from(width);
            self.least[column].wrapping_add(number as i64)
        })
    }

    /// Puts another row in the place of one.
    pub(super) fn set(&mut self, place: usize, row: Row) {
        if self.fits(row) {
            return self.write(place, row);
        }
        let mut rows: Vec<_> = self.iter().collect();
        rows[place] = row;
        self.pack(&rows);
    }

    /// Puts a row before that at `place`, or after the last.
    pub(super) fn insert(&mut self, place: usize, row: Row) {
        if !self.fits(row) {
            let mut rows: Vec<_> = self.iter().collect();
            rows.insert(place, row);
            return self.pack(&rows);
        }
        self.len += 1;
        self.resize();
        for place in (place + 1..self.len()).rev() {
            self.write(place, self.get(place - 1));
        }
        self.write(place, row);
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether there are as many bytes as rows need.
    pub(super) fn is_sound(&self) -> bool {
        let near = |least: &i64| least.unsigned_abs() <= 2 * NUMBER_MAX.unsigned_abs();
        self.len() <= super::HOURS
            && self.widths.iter().all(|&width| width <= WIDTH_MAX)
            && self.least.iter().all(near)
            && self.bytes.len() == self.taken()
    }

    fn fits(&self, row: Row) -> bool {
        (0..3).all(|column| {
            let above = row[column].wrapping_sub(self.least[column]);
            (0..=mask(self.widths[column].into()) as i64).contains(&above)
        })
    }

    fn write(&mut self, place: usize, row: Row) {
        let mut at = place * self.bits();
        for ((number, least), width) in row.into_iter().zip(self.least).zip(self.widths) {
            write(&mut self.bytes, at, width, (number - least) as u64);
            at += usize::from(width);
        }
    }

    /// Bits of a row.
    fn bits(&self) -> usize {
        self.widths.into_iter().map(usize::from).sum()
    }

    fn taken(&self) -> usize {
        (self.len() * self.bits()).div_ceil(8)
    }

    /// Has as many bytes as rows need.
    fn resize(&mut self) {
        let taken = self.taken();
        if taken > self.bytes.capacity() {
            let few = FEW * FEW_BITS / 8;
            let most = (super::HOURS * (self.bits() + SPARE_BITS)).div_ceil(8);
            let room = if taken <= few { few } else { most };
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.resize(taken, 0);
    }
}

/// The greatest number of `width` bits, which are fewer than 64.
fn mask(width: u32) -> u64 {
    (1 << width) - 1
}

/// The eight bytes around bit `at`, those behind the end being 0, and how many of them there are.
fn around(bytes: &[u8], at: usize) -> (u64, usize) {
    let here = &bytes[at / 8..];
    let (mut eight, length) = ([0; 8], here.len().min(8));
    eight[..length].copy_from_slice(&here[..length]);
    (u64::from_le_bytes(eight), length)
}

fn read(bytes: &[u8], at: usize, width: u8) -> u64 {
    around(bytes, at).0 >> (at % 8) & mask(width.into())
}

fn write(bytes: &mut [u8], at: usize, width: u8, number: u64) {
    let (eight, length) = around(bytes, at);
    let eight = eight & !(mask(width.into()) << (at % 8)) | number << (at % 8);
    bytes[at / 8..][..length].copy_from_slice(&eight.to_le_bytes()[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_that_were_put_wherever_and_however_wide() {
        let (mut rows, mut plain) = (Rows::default(), Vec::<Row>::new());
        let mut dice = 1_u64;
        for step in 0..2000_u64 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let far = |bits: u64| ((dice >> 9) as i64) >> (63 - (step / 40 + bits) % 55);
            let row = [far(0), -far(7), far(20) / 3];
            let place = (dice >> 40) as usize;
            if plain.len() < super::super::HOURS && step % 3 > 0 {
                let place = place % (plain.len() + 1);
                plain.insert(place, row);
                rows.insert(place, row);
            } else if !plain.is_empty() {
                let place = place % plain.len();
                plain[place] = row;
                rows.set(place, row);
            }
            assert!(rows.iter().eq(plain.iter().copied()), "{step}");
            assert!(rows.is_sound(), "{step}");
        }
    }

    fn packed(rows: &[Row]) -> Rows {
        let mut packed = Rows::default();
        packed.pack(rows);
        packed
    }

    #[test]
    fn numbers_take_what_they_differ_by() {
        let check = |rows: &[Row], bits: usize| assert_eq!(packed(rows).bits(), bits, "{rows:?}");
        check(&[], 0);
        check(&[[9, -9, 1 << 50]; 3], 0);
        check(&[[240, 1_000_000, 0], [241, 1_000_255, 0]], 1 + 8);
        check(&[[NUMBER_MAX, 0, 0], [-NUMBER_MAX, 0, 0]], 56);
    }
}
