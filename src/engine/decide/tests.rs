//! Tables for the way from votes to flags and lessons.

use super::*;

const ZERO: Band = Band { expected: 0.0, lower: 0.0, upper: 0.0 };

const POLICY: Policy = Policy {
    direction: Direction::Both,
    min_deviation_absolute: 0.0,
    min_deviation_relative: 0.0,
    warm_up: 0,
    trigger_ms: 0,
    fraction: 1.0,
    recovery_ms: 0,
    accept_after_ms: i64::MAX,
};

/// A band of 90 to 110 around 100.
fn votes(value: f64) -> Votes {
    let mut votes = Votes::default();
    votes.set(DetectorKind::ZScore, Band::around(100.0, 10.0).map(|band| Verdict::of(value, band)));
    votes
}

/// Feeds one value a minute and writes `score/flag/lesson` for each.
fn check(policy: Policy, values: &[f64], expected: &str) {
    let mut decision = Decision::default();
    let mut seen = Vec::new();
    for (minute, &value) in values.iter().enumerate() {
        let sample = Sample { timestamp: minute as i64 * 60_000, value };
        let (decided, lesson) = decision.decide(sample, &votes(value), &policy);
        let decided = decided.expect("there is a vote");
        let lesson = match lesson {
            Lesson::Learn(value) => value.to_string(),
            Lesson::Withhold => "-".to_owned(),
        };
        seen.push(format!("{:.1}/{}/{lesson}", decided.score, u8::from(decided.flag)));
    }
    assert_eq!(seen.join(" "), expected);
}

#[test]
fn a_flag_follows_the_score_where_there_is_no_window() {
    check(POLICY, &[100.0, 110.0, 120.0, 80.0, 100.0], "0.0/0/100 1.0/0/110 2.0/1/- 2.0/1/- 0.0/0/100");
}

#[test]
fn direction_silences_the_other_side() {
    check(Policy { direction: Direction::Above, ..POLICY }, &[120.0, 80.0], "2.0/1/- 0.0/0/90");
    check(Policy { direction: Direction::Below, ..POLICY }, &[120.0, 80.0], "0.0/0/110 2.0/1/-");
}

#[test]
fn a_deviation_below_either_minimum_is_at_most_at_the_edge() {
    check(Policy { min_deviation_absolute: 25.0, ..POLICY }, &[120.0, 130.0], "1.0/0/110 3.0/1/-");
    check(Policy { min_deviation_relative: 0.25, ..POLICY }, &[120.0, 130.0], "1.0/0/110 3.0/1/-");
    let both = Policy { min_deviation_absolute: 1.0, min_deviation_relative: 0.25, ..POLICY };
    check(both, &[120.0], "1.0/0/110");
}

#[test]
fn warm_up_scores_and_learns_but_never_flags() {
    check(Policy { warm_up: 2, ..POLICY }, &[150.0, 150.0, 150.0], "5.0/0/150 5.0/0/150 5.0/1/-");
}

#[test]
fn the_flag_waits_for_its_share_of_the_window_and_for_recovery() {
    let minute = 60_000;
    let policy = Policy { trigger_ms: 5 * minute, fraction: 0.6, recovery_ms: 2 * minute, ..POLICY };
    let values = [100.0, 100.0, 100.0, 120.0, 120.0, 120.0, 100.0, 100.0, 100.0];
    check(
        policy,
        &values,
        "0.0/0/100 0.0/0/100 0.0/0/100 2.0/0/110 2.0/0/110 2.0/1/- 0.0/1/- 0.0/0/100 0.0/0/100",
    );
}

#[test]
fn a_level_that_stays_is_accepted_once_and_its_distance_told() {
    let policy = Policy { accept_after_ms: 3 * 60_000, ..POLICY };
    let mut decision = Decision::default();
    let shifts: Vec<_> = (0..5)
        .map(|minute| {
            let sample = Sample { timestamp: minute * 60_000, value: 130.0 };
            decision.decide(sample, &votes(130.0), &policy).0.and_then(|decided| decided.shift)
        })
        .collect();
    assert_eq!(shifts, [None, None, None, Some(30.0), None]);
}

#[test]
fn both_memories_must_agree_and_the_calmer_speaks() {
    use DetectorKind::{Baseline, Iqr, Mad, RollingZScore, ZScore};
    let speak = |scores: &[(DetectorKind, f64)]| {
        let mut votes = Votes::default();
        for &(kind, score) in scores {
            votes.set(kind, Some(Verdict { score, band: ZERO }));
        }
        votes.learned().map(|kind| votes.of(kind).score)
    };
    assert_eq!(speak(&[]), None);
    assert_eq!(speak(&[(ZScore, 3.0)]), Some(3.0));
    assert_eq!(speak(&[(RollingZScore, 9.0), (Mad, 2.0)]), Some(2.0));
    assert_eq!(speak(&[(RollingZScore, 9.0), (Mad, 2.0), (Iqr, 4.0)]), Some(4.0));
    assert_eq!(speak(&[(RollingZScore, 9.0), (ZScore, 0.5)]), Some(0.5));
    assert_eq!(speak(&[(Mad, -9.0), (Iqr, -7.0), (Baseline, -3.0), (ZScore, 0.1)]), Some(-3.0));
    assert_eq!(speak(&[(Mad, 2.0), (Baseline, -3.0)]), Some(2.0));
}

#[test]
fn a_crossed_limit_outranks_what_was_learned() {
    let mut votes = votes(100.0);
    votes.set(DetectorKind::Static, Some(Verdict { score: 1.5, band: ZERO }));
    assert_eq!(votes.speaking(votes.learned()), Some(DetectorKind::Static));
    votes.set(DetectorKind::Static, Some(Verdict { score: 0.0, band: ZERO }));
    assert_eq!(votes.speaking(votes.learned()), Some(DetectorKind::ZScore));
    let policy = Policy { direction: Direction::Below, min_deviation_absolute: 1e9, ..POLICY };
    assert_eq!(judge(0.0, DetectorKind::Static, Verdict { score: 1.5, band: ZERO }, &policy), 1.5);
}

#[test]
fn the_end_of_the_source_lowers_the_flag_and_keeps_the_warm_up() {
    let mut decision = Decision::default();
    let policy = Policy { warm_up: 1, ..POLICY };
    for timestamp in 0..2 {
        decision.decide(Sample { timestamp, value: 150.0 }, &votes(150.0), &policy);
    }
    assert!(decision.is_flagged());
    decision.end();
    assert!(!decision.is_flagged());
    decision.decide(Sample { timestamp: 9, value: 150.0 }, &votes(150.0), &policy);
    assert!(decision.is_flagged());
}

#[test]
fn the_middle_of_three_speaks_in_whatever_order_they_stand() {
    use DetectorKind::{Iqr, Mad, RollingZScore};
    for scores in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1], [2, 2, 1], [3, 2, 2]] {
        let mut votes = Votes::default();
        for (kind, score) in [RollingZScore, Mad, Iqr].into_iter().zip(scores) {
            votes.set(kind, Some(Verdict { score: f64::from(score) - 2.5, band: ZERO }));
        }
        assert_eq!(votes.learned().map(|kind| votes.of(kind).score), Some(-0.5), "{scores:?}");
    }
}
