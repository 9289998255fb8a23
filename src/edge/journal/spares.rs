//! Batches that engines are done with, kept for the room that they have.
//!
//! Room that is new for each request is zeroed first: about 30 ns for each of its samples, beside 100 to decode it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::series::Batch;

/// Batches that are kept: as many as may wait for engines while these are busy.
const SPARES_MAX: usize = 16;
/// Bytes of one at most.
const BYTES_MAX: usize = 4 << 20;
/// Bytes of all of them.
const ALL_BYTES_MAX: usize = 16 << 20;
/// How many times what is wanted a batch may have: what waits for engines is bounded by the room that it occupies.
const LARGER_MAX: usize = 4;

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Spares(Mutex<Vec<Batch>>);

impl Spares {
    /// Keeps `batch` as an empty one, unless there are enough or it is too large.
    pub(super) fn keep(&self, mut batch: Batch) {
        let bytes = batch.memory_bytes();
        if bytes > BYTES_MAX {
            return;
        }
        batch.recycle();
        let mut spares = self.lock();
        let kept = spares.iter().map(Batch::memory_bytes).sum::<usize>();
        if spares.len() < SPARES_MAX && kept + bytes <= ALL_BYTES_MAX {
            spares.push(batch);
        }
    }

    /// An empty batch for a request of so many bytes: the largest that is not too large for it. Where all are, one is let
    /// go.
    pub(super) fn take(&self, bytes: usize) -> Batch {
        let mut spares = self.lock();
        let sizes = spares.iter().map(Batch::memory_bytes).enumerate();
        let fitting = sizes.filter(|(_, size)| *size <= bytes.saturating_mul(LARGER_MAX));
        match fitting.max_by_key(|(_, size)| *size) {
            Some((at, _)) => spares.swap_remove(at),
            None => {
                spares.pop();
                Batch::default()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Batch {
        Batch::over(Vec::with_capacity(bytes))
    }

    #[test]
    fn a_batch_comes_back_empty_with_its_room() {
        let spares = Spares::default();
        let mut used = batch(1000);
        used.push_sample(crate::series::Sample { timestamp: 0, value: 0.0 });
        let room = used.memory_bytes();
        spares.keep(used);
        let spare = spares.take(1000);
        assert_eq!((spare.memory_bytes(), spare.samples().len()), (room, 0));
        assert_eq!(spares.take(1000).memory_bytes(), 0, "it was taken");
    }

    #[test]
    fn a_small_request_is_not_given_the_room_of_a_large_one() {
        let spares = Spares::default();
        spares.keep(batch(4000));
        assert_eq!(spares.take(999).memory_bytes(), 0);
        spares.keep(batch(4000));
        assert_eq!(spares.take(1000).memory_bytes(), 4000);
    }

    #[test]
    fn large_and_small_requests_in_turn_each_have_their_room_again() {
        let spares = Spares::default();
        [4000, 100].into_iter().for_each(|bytes| spares.keep(batch(bytes)));
        for _ in 0..3 {
            for bytes in [100, 4000] {
                let spare = spares.take(bytes);
                assert_eq!(spare.memory_bytes(), bytes);
                spares.keep(spare);
            }
        }
    }

    #[test]
    fn few_are_kept_and_none_that_is_large() {
        let spares = Spares::default();
        spares.keep(batch(BYTES_MAX + 1));
        assert_eq!(spares.take(usize::MAX).memory_bytes(), 0);
        let kept = |bytes: usize| {
            (0..SPARES_MAX + 1).for_each(|_| spares.keep(batch(bytes)));
            (0..SPARES_MAX + 1).filter(|_| spares.take(bytes).memory_bytes() > 0).count()
        };
        assert_eq!([10, BYTES_MAX].map(kept), [SPARES_MAX, ALL_BYTES_MAX / BYTES_MAX]);
    }
}
