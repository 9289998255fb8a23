//! Room of records that are forgotten, for those that come.
//!
//! Records end in another order and on other threads than they began, and have many lengths. An allocator that gets
//! all of them back looks among them for what fits: for microseconds, each time.

use bytes::Bytes;

/// How many are kept.
const SPARES_MAX: usize = 4;
/// Below so many bytes an allocator has room at hand.
const BYTES_MIN: usize = 4 << 10;
/// Above so many bytes an allocator gives room back to the system at once, and so does this.
const BYTES_MAX: usize = 1 << 20;
/// By which part of what is wanted a spare may be larger: what is in memory is bounded by payloads.
const LARGER_MAX: usize = 4;

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    /// Keeps the room of `payload`, unless it is small, large, or held by somebody still.
    pub(super) fn keep(&mut self, payload: Bytes) {
        if !(BYTES_MIN..=BYTES_MAX).contains(&payload.len()) {
            return;
        }
        let Ok(mut room) = payload.try_into_mut() else { return };
        room.clear();
        if self.0.len() >= SPARES_MAX {
            self.0.remove(0);
        }
        self.0.push(room.into());
    }

    /// Empty room for so many bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let fits = |spare: &Vec<u8>| (bytes..=bytes + bytes / LARGER_MAX).contains(&spare.capacity());
        match self.0.iter().position(fits) {
            Some(at) => self.0.remove(at),
            // A little more, so that it fits others, too.
            None => Vec::with_capacity(if bytes < BYTES_MIN { bytes } else { bytes + bytes / 8 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    /// A record's payload, as it stands behind a head.
    fn payload(bytes: usize) -> Bytes {
        let mut record = Spares::default().take(bytes + 36);
        record.resize(bytes + 36, 7);
        let mut payload = Bytes::from(record);
        payload.advance(36);
        payload
    }

    #[test]
    fn the_room_of_a_payload_is_had_again_whole_and_empty() {
        let mut spares = Spares::default();
        let kept = payload(9000);
        let place = kept.as_ptr() as usize - 36;
        spares.keep(kept);
        let room = spares.take(9036);
        assert_eq!((room.as_ptr() as usize, room.len(), room.capacity()), (place, 0, 9036 + 9036 / 8));
    }

    #[test]
    fn what_somebody_holds_is_left_to_him() {
        let mut spares = Spares::default();
        let held = payload(9000);
        spares.keep(held.clone());
        assert!(spares.0.is_empty());
        assert_eq!(held, [7; 9000][..]);
    }

    #[test]
    fn a_record_is_not_given_far_more_room_than_it_needs() {
        let mut spares = Spares::default();
        let room = 9036 + 9036 / 8;
        spares.keep(payload(9000));
        assert_eq!(spares.take(8200).capacity(), room);
        spares.keep(payload(9000));
        assert_eq!([8000, 40].map(|bytes| spares.take(bytes).capacity()), [9000, 40]);
        assert_eq!(spares.take(room).capacity(), room, "it was left");
    }

    #[test]
    fn few_are_kept_the_newest_and_none_that_is_small_or_large() {
        let mut spares = Spares::default();
        spares.keep(payload(BYTES_MIN - 1));
        spares.keep(payload(BYTES_MAX + 1));
        assert!(spares.0.is_empty());
        [40_000, 9000, 9000, 9000, 9000].into_iter().for_each(|bytes| spares.keep(payload(bytes)));
        assert_eq!(spares.0.iter().map(Vec::capacity).collect::<Vec<_>>(), [9036 + 9036 / 8; SPARES_MAX]);
    }
}
