//! Share of samples outside the band in a sliding window of event time, in 32 bytes, and 16 more while
//! there are any.

use serde::{Deserialize, Deserializer, Serialize};

/// How many buckets a window is cut into; its length is right to within one of them.
const BUCKETS: i64 = 16;

/// Counts of samples, bucket by bucket.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct TriggerWindow {
    /// Number of the bucket written last, in bucket lengths since the epoch.
    current: i64,
    total: Buckets,
    /// None are outside where there are no such counts.
    outside: Option<Box<Buckets>>,
}

type Buckets = [u8; BUCKETS as usize];

impl<'de> Deserialize<'de> for TriggerWindow {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (current, total, outside): (i64, Buckets, Option<Box<Buckets>>) = Deserialize::deserialize(from)?;
        let counts: Option<&Buckets> = outside.as_deref();
        let counted = |counts: &Buckets| counts.iter().zip(&total).all(|(outside, total)| outside <= total);
        counts
            .is_none_or(counted)
            .then_some(Self { current, total, outside })
            .ok_or_else(|| serde::de::Error::custom("more samples outside than there are"))
    }
}

impl TriggerWindow {
    /// Counts a sample and returns the share of those outside among the samples of the last
    /// `length_ms`, this one included. With a length of 0, only this one counts.
    pub(super) fn observe(&mut self, now: i64, outside: bool, length_ms: i64) -> f64 {
        self.count(now, outside, length_ms);
        if length_ms <= 0 {
            return f64::from(u8::from(outside));
        }
        self.outside.as_deref().map_or(0.0, |counts| sum(counts) / sum(&self.total))
    }

    /// Counts a sample.
    #[inline]
    pub(super) fn count(&mut self, now: i64, outside: bool, length_ms: i64) {
        if length_ms <= 0 {
            return;
        }
        self.advance(now, (length_ms / BUCKETS).max(1));
        let slot = self.current.rem_euclid(BUCKETS) as usize;
        if self.total[slot] == u8::MAX {
            self.total[slot] /= 2;
            self.outside.iter_mut().for_each(|counts| counts[slot] /= 2);
        }
        self.total[slot] += 1;
        if outside {
            self.outside.get_or_insert_default()[slot] += 1;
        }
    }

    /// Goes to the bucket of `now`, where each is `length` long. Nearly always that is the present one or the next, which
    /// is found without a division.
    #[inline]
    fn advance(&mut self, now: i64, length: i64) {
        let start = self.current.checked_mul(length);
        match start.and_then(|start| now.checked_sub(start)) {
            Some(past) if (0..length).contains(&past) => {}
            Some(past) if past >= length && past - length < length && self.outside.is_none() => {
                self.current += 1;
                self.total[self.current.rem_euclid(BUCKETS) as usize] = 0;
            }
            _ => self.go_to(now.div_euclid(length)),
        }
    }

    #[inline(never)]
    fn go_to(&mut self, bucket: i64) {
        let steps = bucket.saturating_sub(self.current).clamp(0, BUCKETS);
        self.current = bucket;
        for step in 0..steps {
            let slot = (bucket - step).rem_euclid(BUCKETS) as usize;
            self.total[slot] = 0;
            self.outside.iter_mut().for_each(|counts| counts[slot] = 0);
        }
        if steps > 0 {
            self.outside.take_if(|counts| **counts == Buckets::default());
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.outside.as_ref().map_or(0, |_| size_of::<Buckets>())
    }
}

fn sum(counts: &[u8]) -> f64 {
    f64::from(counts.iter().map(|&count| u32::from(count)).sum::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(length_ms: i64, samples: &[(i64, bool)]) -> Vec<f64> {
        let mut window = TriggerWindow::default();
        samples.iter().map(|&(now, outside)| window.observe(now, outside, length_ms)).collect()
    }

    #[test]
    fn each_sample_decides_alone_without_a_window() {
        assert_eq!(shares(0, &[(0, true), (1, false), (2, true)]), [1.0, 0.0, 1.0]);
    }

    #[test]
    fn samples_leave_the_window_as_time_goes_on() {
        let minute = 60_000;
        let samples: Vec<_> = (0..8).map(|i| (i * minute, i < 4)).collect();
        // A window of 4 minutes holds the last four samples.
        assert_eq!(shares(4 * minute, &samples), [1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn a_long_gap_empties_the_window() {
        assert_eq!(shares(1000, &[(0, true), (1_000_000, false)]), [1.0, 0.0]);
    }

    #[test]
    fn thousands_of_samples_in_a_bucket_keep_their_share() {
        let samples: Vec<_> = (0..10_000).map(|i| (i % 100, i % 4 == 0)).collect();
        let share = *shares(160_000, &samples).last().expect("samples were given");
        assert!((share - 0.25).abs() < 0.02, "{share}");
    }

    #[test]
    fn only_counts_that_can_be_are_read_back() {
        let read = |outside: u8, total: u8| {
            let outside = Some(Box::new([outside; 16]));
            let window = TriggerWindow { current: -7, total: [total; 16], outside };
            postcard::from_bytes::<TriggerWindow>(&postcard::to_allocvec(&window).expect("it can be written"))
        };
        assert_eq!(read(3, 200).expect("3 of 200 are fine").outside, Some(Box::new([3; 16])));
        assert!(read(200, 200).is_ok() && read(201, 200).is_err());
    }

    #[test]
    fn a_bucket_is_the_same_wherever_the_window_stands() {
        let check = |current: i64, now: i64, length: i64| {
            let mut window = TriggerWindow { current, ..TriggerWindow::default() };
            window.advance(now, length);
            assert_eq!(window.current, now.div_euclid(length), "{now} by {length} from {current}");
        };
        let lengths = [1, 2, 18_750, i64::MAX / 16, i64::MAX];
        for (length, now) in lengths.into_iter().flat_map(|length| [(length, 0), (length, 7), (length, -7)]) {
            for times in [i64::MIN / length, -2, -1, 0, 1, 2, 90_666_666, i64::MAX / length] {
                let now = times.saturating_mul(length).saturating_add(now);
                for current in [i64::MIN, times.saturating_sub(2), times.saturating_sub(1), times, i64::MAX] {
                    check(current, now, length);
                }
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_no_harm() {
        shares(300_000, &[(i64::MIN, true), (i64::MAX, true), (i64::MIN, false)]);
    }
}
