//! What every detector promises, whatever it is fed.

use promantis::engine::baseline::HourOfWeek;
use promantis::engine::detect::moments::Moments;
use promantis::engine::detect::short_memory::ShortMemory;
use promantis::engine::detect::summary::Summary;
use promantis::engine::detect::window::Window;
use promantis::engine::detect::zscore::ZScore;
use promantis::engine::detect::{Detector, Verdict, iqr, mad, rolling_zscore};
use promantis::engine::forecast::linear::LinearTrend;
use promantis::series::Sample;
use proptest::prelude::*;

const MINUTE_MS: i64 = 60_000;
const START_MS: i64 = 1_767_571_200_000;

/// All methods that learn, fed with the same samples.
#[derive(Clone, Default)]
struct Panel {
    zscore: ZScore,
    window: Window,
    baseline: HourOfWeek,
}

impl Panel {
    fn taught(values: &[f64]) -> Self {
        let mut panel = Self::default();
        values.iter().enumerate().for_each(|(index, &value)| panel.learn(sample(index, value)));
        panel
    }

    fn learn(&mut self, sample: Sample) {
        self.zscore.learn(sample);
        self.window.learn(sample.value);
        self.baseline.learn(sample);
    }

    fn score(&self, sample: Sample) -> [Option<Verdict>; 5] {
        [
            self.zscore.score(sample),
            rolling_zscore::score(&self.window, sample.value),
            mad::score(&self.window, sample.value),
            iqr::score(&self.window, sample.value),
            self.baseline.score(sample),
        ]
    }
}

/// Twenty minutes of each of two hours, week by week: so both hours of the week come to speak.
fn sample(index: usize, value: f64) -> Sample {
    let (visit, minute) = (index as i64 / 20, index as i64 % 20);
    let hour = visit / 2 * 168 + visit % 2;
    Sample { timestamp: START_MS + (hour * 60 + minute) * MINUTE_MS, value }
}

/// Multiples of 1/1024, so that adding a constant is exact; often equal to each other.
fn values(most: usize) -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![-3..3i32, -1_000_000..1_000_000i32];
    prop::collection::vec(value.prop_map(|steps| f64::from(steps) / 1024.0), 0..most)
}

/// Any finite values, equal ones and both zeros among them.
fn any_values(most: usize) -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
        -1e6..1e6,
        prop::sample::select(vec![0.0, -0.0, 1.0, 0.1, 1e300])
    ];
    prop::collection::vec(value, 0..most)
}

/// What signals are made of, one kind after the other and mixed: counts, decimals, rates of counts, bytes, steps far
/// away, learned edges, and anything.
fn signals(most: usize) -> impl Strategy<Value = Vec<f64>> {
    let far = prop::sample::select(vec![0.0, 40_000.0, 3e9, 1e13, 1e17]);
    let value = prop_oneof![
        (-20..20i32).prop_map(f64::from),
        (0..10_000i32).prop_map(|cents| f64::from(cents) / 100.0),
        (0..200i32).prop_map(|count| f64::from(count) / 15.0),
        (0..1 << 22).prop_map(|pages: i32| f64::from(pages) * 4096.0),
        (far, -100..100i32).prop_map(|(far, near)| far + f64::from(near)),
        -1e3..1e3f64,
        prop::sample::select(vec![0.0, -0.0, 5.0, 0.1, f64::MAX]),
    ];
    let kind = prop_oneof![
        (-9..9i32, 1..150usize).prop_map(|(value, count)| vec![f64::from(value); count]),
        (0..300i32, 1..150usize).prop_map(|(from, count)| {
            (0..count).map(|step| f64::from(from + step as i32 * 37 % 101) / 15.0).collect()
        }),
        (-50_000..50_000i32, -900..900i32, 1..150usize).prop_map(|(from, slope, count)| {
            (0..count).map(|step| f64::from(from + slope * step as i32) / 10.0).collect()
        }),
        prop::collection::vec(value, 1..20),
    ];
    prop::collection::vec(kind, 1..most).prop_map(|kinds| kinds.concat())
}

/// Both know the same: ranks to the last bit, and sums to the rounding of a sum of floats.
fn same_window(memory: &ShortMemory, window: &Window) -> Result<(), TestCaseError> {
    prop_assert_eq!(memory.len(), window.len());
    for step in 0..=8 {
        let q = f64::from(step) / 8.0;
        prop_assert_eq!(memory.quantile(q).map(f64::to_bits), window.quantile(q).map(f64::to_bits), "{}", q);
    }
    let (Some(one), Some(other)) = (memory.summary(), window.summary()) else {
        prop_assert_eq!(memory.summary(), window.summary());
        return Ok(());
    };
    let ranked = |it: &Summary| [it.q1, it.median, it.q3, it.mad].map(f64::to_bits);
    prop_assert_eq!(ranked(&one), ranked(&other), "{:?} {:?}", one, other);
    let size = [0.0, 1.0]
        .map(|q| window.quantile(q).expect("it has a summary").abs())
        .into_iter()
        .fold(0.0, f64::max);
    let same = |one: f64, other: f64| one == other || (one - other).abs() <= 1e-14 * size;
    prop_assert!(same(one.mean, other.mean), "{:?} {:?}", one, other);
    prop_assert!(same(one.std, other.std) || !other.std.is_finite(), "{:?} {:?}", one, other);
    Ok(())
}

fn near(one: f64, other: f64, scale: f64) -> bool {
    (one - other).abs() <= 1e-9 * scale.max(other.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Scoring, however often and whatever, changes no later score.
    #[test]
    fn scoring_twice_equals_scoring_once(values in any_values(100), asked in any_values(3)) {
        let (mut quiet, mut asked_often) = (Panel::default(), Panel::default());
        for (index, &value) in values.iter().enumerate() {
            for &other in &asked {
                asked_often.score(sample(index, other));
            }
            let sample = sample(index, value);
            prop_assert_eq!(quiet.score(sample), asked_often.score(sample));
            prop_assert_eq!(asked_often.score(sample), asked_often.score(sample));
            quiet.learn(sample);
            asked_often.learn(sample);
        }
    }

    /// The scale of a signal has no zero: a constant added to all values moves the band by as much and no score.
    #[test]
    fn a_constant_added_moves_the_band_and_leaves_the_score(
        values in values(200),
        constant in -1_000_000..1_000_000i32,
        asked in -2000.0..2000.0f64,
    ) {
        let constant = f64::from(constant) / 1024.0;
        let asked = (asked * 1024.0).round() / 1024.0;
        let moved: Vec<_> = values.iter().map(|value| value + constant).collect();
        let here = Panel::taught(&values).score(sample(values.len(), asked));
        let there = Panel::taught(&moved).score(sample(values.len(), asked + constant));
        for (here, there) in here.into_iter().zip(there) {
            prop_assert_eq!(here.is_some(), there.is_some());
            let (Some(here), Some(there)) = (here, there) else { continue };
            prop_assert!(near(there.band.expected, here.band.expected + constant, 1e3));
            // The score is a quotient by a band that may be narrow: as exact as that division.
            let width = (here.band.upper - here.band.lower).min(1.0);
            prop_assert!(near(there.score * width, here.score * width, 1e3), "{:?} {:?}", here, there);
        }
    }

    /// A panel that was copied half way, as a snapshot is, ends like one that was not; nothing panics on
    /// any finite input, and a score is never "not a number".
    #[test]
    fn the_same_input_gives_the_same_output(values in any_values(150), asked in any_values(4)) {
        let whole = Panel::taught(&values);
        let (first, second) = values.split_at(values.len() / 2);
        let mut resumed = Panel::taught(first).clone();
        for (index, &value) in second.iter().enumerate() {
            resumed.learn(sample(first.len() + index, value));
        }
        for &value in &asked {
            let sample = sample(values.len(), value);
            prop_assert_eq!(whole.score(sample), resumed.score(sample));
            for verdict in whole.score(sample).into_iter().flatten() {
                prop_assert!(!verdict.score.is_nan());
                prop_assert!(verdict.band.lower.is_finite() && verdict.band.upper.is_finite());
            }
        }
    }

    /// The running form is only a way to compute: its mean and deviation are those of all values at once.
    #[test]
    fn the_running_z_score_equals_the_batch_z_score(
        values in prop::collection::vec(-1e6..1e6f64, 2..500),
        asked in -1e6..1e6f64,
    ) {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        let mut zscore = ZScore::default();
        values.iter().for_each(|&value| zscore.learn(sample(0, value)));
        let verdict = zscore.score(sample(0, asked)).unwrap();
        prop_assert!(near(verdict.band.expected, mean, std));
        prop_assert!(near(verdict.band.upper - verdict.band.lower, 6.0 * std, std));
        prop_assert!(near(verdict.score, (asked - mean) / (3.0 * std), 1.0));
    }

    /// A window knows exactly what a sort of the last 60 values knows, to the last bit.
    #[test]
    fn median_deviation_and_quartiles_equal_those_of_the_last_sixty_sorted(values in any_values(200)) {
        let mut window = Window::default();
        for (index, &value) in values.iter().enumerate() {
            window.learn(value);
            let last = &values[(index + 1).saturating_sub(60)..=index];
            let median = middle(last.to_vec());
            prop_assert_eq!(window.median(), Some(median));
            let deviations = last.iter().map(|value| (value - median).abs()).collect();
            prop_assert_eq!(window.mad(median), Some(middle(deviations)));
            let sorted = ascending(last.to_vec());
            prop_assert_eq!(window.quantile(0.0), Some(sorted[0]));
            for quarter in 1..=3 {
                let (numerator, rank) = ((last.len() - 1) * quarter % 4, (last.len() - 1) * quarter / 4);
                let above = sorted[(rank + 1).min(last.len() - 1)];
                let expected = sorted[rank] + (above - sorted[rank]) * (numerator as f64 / 4.0);
                let found = window.quantile(quarter as f64 / 4.0).unwrap();
                prop_assert!(found == expected || found.is_nan() && expected.is_nan());
            }
        }
    }

    /// Whatever 14 of 60 values are, the fences stay within 1.5 times the range of the other 46 beyond that
    /// range; and the median deviation stays within the range.
    #[test]
    fn fourteen_wrong_values_of_sixty_move_no_fence_far(
        good in prop::collection::vec(10.0..20.0f64, 46),
        wrong in prop::collection::vec(-1e9..1e9f64, 14),
        turn in 0..60usize,
    ) {
        let mut values = [wrong, good].concat();
        values.rotate_left(turn);
        let mut window = Window::default();
        values.iter().for_each(|&value| window.learn(value));
        let band = iqr::score(&window, 15.0).unwrap().band;
        prop_assert!(band.lower >= 10.0 - 15.0 && band.upper <= 20.0 + 15.0, "{:?}", band);
        let band = mad::score(&window, 15.0).unwrap().band;
        prop_assert!((10.0..=20.0).contains(&band.expected));
        prop_assert!(band.upper - band.expected <= 3.5 / 0.6745 * 10.0);
    }

    /// Whatever form a signal's memory takes, it knows what a window of floats knows, at every step, also when it is
    /// written and read back.
    #[test]
    fn a_memory_knows_what_a_window_of_floats_knows(
        values in signals(8),
        shifts in prop::collection::vec((0..600usize, prop_oneof![Just(0.25), Just(-7.0), -1e3..1e3f64]), 0..3),
    ) {
        let (mut memory, mut window) = (ShortMemory::default(), Window::default());
        for (index, &value) in values.iter().enumerate() {
            for &(_, distance) in shifts.iter().filter(|(at, _)| *at == index) {
                memory.shift(distance);
                window.shift(distance);
            }
            memory.learn(value);
            window.learn(value);
            same_window(&memory, &window)?;
            if index % 16 == 0 {
                let read: ShortMemory = postcard::from_bytes(&postcard::to_allocvec(&memory).unwrap()).unwrap();
                prop_assert_eq!(&read, &memory);
                prop_assert_eq!(read.summary(), memory.summary());
                memory = read;
            }
        }
    }

    /// Hours that were put away and taken out again, week by week, are those of all their values.
    #[test]
    fn an_hour_remembers_what_all_its_values_say(
        level in prop::sample::select(vec![0.0, -50.0, 1e6]),
        noise in prop::collection::vec(-10.0..10.0f64, 48 * 14),
    ) {
        let mut baseline = HourOfWeek::default();
        let mut hours = vec![Moments::default(); 48];
        for (index, noise) in noise.into_iter().enumerate() {
            // Fourteen of each hour, in two weeks.
            let (hour, week) = (index / 7 % 48, index / 7 / 48);
            let minute = index as i64 % 7;
            let timestamp = START_MS + ((week * 168 + hour) as i64 * 60 + minute) * MINUTE_MS;
            let value = level + 100.0 * (hour as f64 / 7.0).sin() + noise;
            baseline.learn(Sample { timestamp, value });
            hours[hour].learn(value);
        }
        for (hour, moments) in hours.into_iter().enumerate() {
            let timestamp = START_MS + (2 * 168 + hour as i64) * 60 * MINUTE_MS;
            let value = level;
            let (found, all) = (baseline.score(Sample { timestamp, value }).unwrap(), moments.band().unwrap());
            prop_assert!(near(found.band.expected, all.expected, 1.0), "{:?} {:?}", found, all);
            let deviation = all.upper - all.expected;
            prop_assert!(near(found.band.upper - found.band.expected, deviation, 0.0), "{:?} {:?}", found, all);
        }
    }

    /// A line moves with a constant added to its values, and neither its slope nor its band's width does.
    #[test]
    fn a_constant_added_lifts_the_line(values in values(150), constant in -1_000_000..1_000_000i32) {
        let constant = f64::from(constant) / 1024.0;
        let (mut here, mut there) = (LinearTrend::default(), LinearTrend::default());
        for (index, &value) in values.iter().enumerate() {
            here.learn(sample(index, value));
            there.learn(sample(index, value + constant));
        }
        let now = sample(values.len(), 0.0).timestamp;
        prop_assert_eq!(here.forecast(now, MINUTE_MS), here.clone().forecast(now, MINUTE_MS));
        let (Some(here), Some(there)) = (here.forecast(now, MINUTE_MS), there.forecast(now, MINUTE_MS)) else {
            prop_assert!(values.len() < 10);
            return Ok(());
        };
        prop_assert!(near(there.expected, here.expected + constant, 1e3));
        prop_assert!(near(there.upper - there.lower, here.upper - here.lower, 1e3));
    }
}

#[test]
fn windowed_medians_wander_by_a_sixth_of_the_deviation_around_that_of_the_whole_history() {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut window = Window::default();
    let mut squares = 0.0;
    for _ in 0..400 {
        (0..60).for_each(|_| window.learn((0..12).map(|_| uniform()).sum::<f64>() - 6.0));
        squares += window.median().unwrap().powi(2);
    }
    let wander = (squares / 400.0).sqrt();
    assert!((0.14..0.18).contains(&wander), "root mean square {wander}");
}

#[test]
fn state_has_a_size_that_no_input_changes() {
    assert_eq!(size_of::<ZScore>(), 24);
    assert_eq!(size_of::<Window>(), 544);
    assert_eq!(size_of::<HourOfWeek>(), 72);
    assert_eq!(size_of::<LinearTrend>(), 32);
}

fn ascending(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(|one, other| one.partial_cmp(other).expect("no value is NaN"));
    values
}

fn middle(values: Vec<f64>) -> f64 {
    let sorted = ascending(values);
    let last = sorted.len() - 1;
    f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)])
}
