//! Which part of a refused request goes next, until the culprits are alone.
//!
//! A request counts its series from 0. Parts are sent from left to right, so that the samples of one
//! series keep their order. There are two kinds of refusal:
//!
//! - *Refused*: the target judged the bytes (400, 413, …). The part is halved; one series that is refused
//!   alone is a culprit. One culprit in `n` costs at most `2 ⌈log₂ n⌉` requests beside the first.
//! - *Server error*: a 500 says "try again", and means it, unless the target answers 500 to what it can
//!   never take, as Prometheus 2.42 does to samples that are too old. [`POISON_AFTER`] of them in a row
//!   start a probe, which halves likewise. A series that fails alone is only a *suspect*, since the target
//!   may just be ill. Once the target has taken something else it is checked: dropped if it fails
//!   [`POISON_AFTER`] times more. With one culprit proven, the next of the same request fails once more
//!   only. Where nothing at all is taken the probe ends, all is put together again, nothing was dropped.
//!
//! A probe meets at most `2 ⌈log₂ n⌉ + 2` server errors in a row, checks aside, before the target has to take something
//! else, so an ill target is not flooded.
//! What a probe cannot decide with this request alone is decided by a witness: whether the target takes
//! another request ([`Step::AskAnother`]), what it took last if that is fresh, else one that waits. A waiting one
//! that is taken overtakes what is undecided, and where a target recovers between a suspect and its neighbour,
//! the suspect is delivered after that neighbour; otherwise order is as sent.

use std::collections::VecDeque;
use std::ops::Range;

/// Server errors in a row, to the same bytes, after which a request is suspected of causing them.
pub(super) const POISON_AFTER: u32 = 5;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Send the series at these positions, and report how they were taken.
    Send(Range<usize>),
    /// Find out whether the target takes another request: then `vouch`, else `no_witness`.
    AskAnother,
    /// Every series was taken or dropped.
    Done,
}

/// What a refusal leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sequel {
    /// Take the next step at once.
    GoOn,
    /// Take the next step after a pause.
    Wait,
    /// These series are given up, never to be sent again. Take the next step at once.
    Drop(Range<usize>),
}

/// The series of one request that are not decided yet, and what is known of them.
#[derive(Clone, Debug)]
pub(super) struct Bisect {
    /// Disjoint parts to send; the leftmost is the last.
    pending: Vec<Range<usize>>,
    /// Failed alone with a server error; nothing else was taken since.
    suspects: Vec<usize>,
    /// Suspects to be sent again, now that something else was taken.
    checks: VecDeque<usize>,
    /// Server errors in a row of the first of `checks`.
    failed_checks: u32,
    /// Whether a culprit was found by server errors, and a witness whenever one was asked for since: the target is one
    /// that fails on samples.
    proven: bool,
    /// Server errors in a row, while not probing.
    server_errors: u32,
    /// How many more server errors the probe takes before it asks for a witness; `None`: no probe runs.
    patience: Option<usize>,
    /// Patience of a fresh probe.
    patience_max: usize,
}

impl Bisect {
    /// A request of `series` series, at least 1, that is to be sent as a whole first.
    pub(super) fn new(series: usize) -> Self {
        let depth = series.max(1).next_power_of_two().ilog2() as usize;
        Self {
            pending: std::iter::once(0..series.max(1)).collect(),
            suspects: Vec::new(),
            checks: VecDeque::new(),
            failed_checks: 0,
            proven: false,
            server_errors: 0,
            patience: None,
            patience_max: 2 * depth + 2,
        }
    }

    /// What to do now. The same until a report comes in.
    pub(super) fn step(&self) -> Step {
        if let Some(&suspect) = self.checks.front() {
            return Step::Send(suspect..suspect + 1);
        }
        match self.pending.last() {
            _ if self.patience == Some(0) => Step::AskAnother,
            Some(part) => Step::Send(part.clone()),
            None if self.suspects.is_empty() => Step::Done,
            None => Step::AskAnother,
        }
    }

    /// The part was taken. This vouches for the target, too.
    pub(super) fn accepted(&mut self) {
        self.take();
        self.server_errors = 0;
        self.patience = self.patience.map(|_| self.patience_max);
        self.checks.extend(self.suspects.drain(..));
    }

    /// The part was judged, and its content refused.
    pub(super) fn refused(&mut self) -> Sequel {
        self.server_errors = 0;
        match self.take() {
            one if one.len() <= 1 => Sequel::Drop(one),
            part => self.halve(part),
        }
    }

    /// The part was refused for a reason that no smaller part would escape.
    pub(super) fn dismissed(&mut self) -> Sequel {
        Sequel::Drop(self.take())
    }

    /// The part met a server error that may be its own fault.
    pub(super) fn server_error(&mut self) -> Sequel {
        if !self.checks.is_empty() {
            return self.failed_check();
        }
        self.patience = match self.patience {
            Some(left) => Some(left.saturating_sub(1)),
            None => {
                self.server_errors += 1;
                if self.server_errors < POISON_AFTER {
                    return Sequel::Wait;
                }
                Some(self.patience_max)
            }
        };
        match self.take() {
            one if one.len() <= 1 => {
                self.suspects.push(one.start);
                Sequel::GoOn
            }
            part => self.halve(part),
        }
    }

    /// The part was not judged at all: no answer, or one that says the target is busy.
    pub(super) fn unheard(&mut self) -> Sequel {
        self.server_errors = 0;
        self.failed_checks = 0;
        Sequel::Wait
    }

    /// The target took another request: it is well, and the probe may go on as one that has just begun.
    pub(super) fn vouch(&mut self) {
        self.patience = Some(self.patience_max);
        self.checks.extend(self.suspects.drain(..));
    }

    /// Nobody vouches for the target: everything undecided is whole again, to be sent after a pause. That it failed
    /// on a culprit before says nothing of a failure now.
    pub(super) fn no_witness(&mut self) {
        self.pending = self.undecided();
        self.pending.reverse();
        self.suspects.clear();
        self.checks.clear();
        self.proven = false;
        self.patience = None;
        // A series alone has nothing to halve: the next server error may ask for a witness at once.
        let alone = matches!(self.pending.as_slice(), [one] if one.len() == 1);
        self.server_errors = if alone { POISON_AFTER - 1 } else { 0 };
    }

    /// All series that were neither taken nor dropped, ascending, neighbours put together.
    pub(super) fn undecided(&self) -> Vec<Range<usize>> {
        let alone = self.checks.iter().chain(&self.suspects).map(|&one| one..one + 1);
        let mut parts: Vec<_> = self.pending.iter().cloned().chain(alone).collect();
        parts.sort_unstable_by_key(|part| part.start);
        let mut whole: Vec<Range<usize>> = Vec::with_capacity(parts.len());
        for part in parts {
            match whole.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => whole.push(part),
            }
        }
        whole
    }

    fn failed_check(&mut self) -> Sequel {
        self.failed_checks += 1;
        self.proven |= self.failed_checks >= POISON_AFTER;
        if self.proven { Sequel::Drop(self.take()) } else { Sequel::Wait }
    }

    /// Takes what `step` named out of what is to be sent.
    fn take(&mut self) -> Range<usize> {
        self.failed_checks = 0;
        match self.checks.pop_front() {
            Some(suspect) => suspect..suspect + 1,
            None => self.pending.pop().expect("a report follows a part that was sent"),
        }
    }

    fn halve(&mut self, part: Range<usize>) -> Sequel {
        let middle = part.start + part.len() / 2;
        self.pending.push(middle..part.end);
        self.pending.push(part.start..middle);
        Sequel::GoOn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A target that refuses some series, in one of the two ways, and is perhaps ill at first.
    struct Target {
        bad: BTreeSet<usize>,
        on_bad: fn(&mut Bisect) -> Sequel,
        ill_for: usize,
    }

    /// How a request went, and what it cost.
    #[derive(Default)]
    struct Outcome {
        taken: Vec<usize>,
        dropped: Vec<usize>,
        requests: usize,
        pauses: usize,
    }

    fn deliver(series: usize, mut target: Target) -> Outcome {
        let mut bisect = Bisect::new(series);
        let mut outcome = Outcome::default();
        loop {
            let ill = target.ill_for > 0;
            let sequel = match bisect.step() {
                Step::Done => return outcome,
                Step::AskAnother if ill => {
                    bisect.no_witness();
                    Sequel::Wait
                }
                Step::AskAnother => {
                    bisect.vouch();
                    Sequel::GoOn
                }
                Step::Send(_) if ill => bisect.server_error(),
                Step::Send(part) if target.bad.range(part.clone()).next().is_some() => {
                    (target.on_bad)(&mut bisect)
                }
                Step::Send(part) => {
                    bisect.accepted();
                    outcome.taken.extend(part);
                    Sequel::GoOn
                }
            };
            target.ill_for = target.ill_for.saturating_sub(1);
            outcome.requests += 1;
            match sequel {
                Sequel::GoOn => {}
                Sequel::Wait => outcome.pauses += 1,
                Sequel::Drop(culprits) => outcome.dropped.extend(culprits),
            }
        }
    }

    fn series_and_bad() -> impl Strategy<Value = (usize, BTreeSet<usize>)> {
        (1usize..300).prop_flat_map(|series| {
            let few = prop::collection::btree_set(0..series, 0..5.min(series + 1));
            let many = prop::collection::btree_set(0..series, 0..=series);
            (Just(series), prop_oneof![few, many])
        })
    }

    fn check(series: usize, bad: &BTreeSet<usize>, on_bad: fn(&mut Bisect) -> Sequel) -> Outcome {
        let outcome = deliver(series, Target { bad: bad.clone(), on_bad, ill_for: 0 });
        let good: Vec<usize> = (0..series).filter(|one| !bad.contains(one)).collect();
        assert_eq!(outcome.taken, good, "exactly the good ones arrive, once each and in order");
        let dropped: BTreeSet<usize> = outcome.dropped.iter().copied().collect();
        assert_eq!((&dropped, outcome.dropped.len()), (bad, bad.len()), "exactly the bad ones are dropped");
        outcome
    }

    proptest! {
        #[test]
        fn a_refusal_costs_exactly_the_bad_ones((series, bad) in series_and_bad()) {
            check(series, &bad, Bisect::refused);
        }

        #[test]
        fn poison_costs_exactly_the_bad_ones((series, bad) in series_and_bad()) {
            check(series, &bad, Bisect::server_error);
        }

        /// What fails while the target is ill is not held against it, whenever the target recovers.
        #[test]
        fn illness_costs_nothing_beside_the_poison((series, bad) in series_and_bad(), ill_for in 0usize..200) {
            let good: Vec<usize> = (0..series).filter(|one| !bad.contains(one)).collect();
            let ill = Target { bad: bad.clone(), on_bad: Bisect::server_error, ill_for };
            let mut outcome = deliver(series, ill);
            outcome.taken.sort_unstable();
            outcome.dropped.sort_unstable();
            prop_assert_eq!(outcome.taken, good);
            prop_assert_eq!(outcome.dropped, bad.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn one_bad_series_costs_logarithmically_many_requests(series in 1usize..5000, at in 0usize..5000) {
            let bad = BTreeSet::from([at % series]);
            let extra = (2.0 * (series as f64).log2()) as usize + 2;
            prop_assert!(check(series, &bad, Bisect::refused).requests <= 1 + extra);
            let poison = check(series, &bad, Bisect::server_error);
            // Beside the halving: the whole until it is suspected, a witness, and the checks.
            prop_assert!(poison.requests <= POISON_AFTER as usize + extra + 1 + POISON_AFTER as usize);
        }
    }

    #[test]
    fn an_ill_target_is_left_in_peace_between_probes() {
        let outcome =
            deliver(2000, Target { bad: BTreeSet::new(), on_bad: Bisect::server_error, ill_for: 1000 });
        let a_probe = 2 * 11 + 2 + 2;
        assert!(outcome.pauses * (a_probe + 5) >= 1000 * 5, "{} pauses in 1,000 refusals", outcome.pauses);
    }

    #[test]
    fn an_outage_of_the_network_is_no_reason_to_suspect() {
        let mut bisect = Bisect::new(8);
        for _ in 0..100 {
            assert_eq!(bisect.server_error(), Sequel::Wait);
            assert_eq!(bisect.unheard(), Sequel::Wait);
        }
        assert_eq!(bisect.step(), Step::Send(0..8));
    }

    #[test]
    fn a_suspect_that_is_taken_when_checked_is_no_culprit() {
        let mut bisect = Bisect::new(2);
        for _ in 0..=POISON_AFTER {
            bisect.server_error();
        }
        assert_eq!(bisect.step(), Step::Send(1..2), "the first failed alone");
        bisect.accepted();
        for _ in 1..POISON_AFTER {
            assert_eq!(bisect.step(), Step::Send(0..1));
            assert_eq!(bisect.server_error(), Sequel::Wait);
        }
        bisect.accepted();
        assert_eq!(bisect.step(), Step::Done);
    }

    #[test]
    fn a_series_alone_asks_for_a_witness_after_each_failure() {
        let mut bisect = Bisect::new(1);
        for _ in 1..POISON_AFTER {
            assert_eq!(bisect.server_error(), Sequel::Wait);
        }
        for _ in 0..3 {
            assert_eq!(bisect.server_error(), Sequel::GoOn);
            assert_eq!(bisect.step(), Step::AskAnother);
            bisect.no_witness();
        }
    }

    /// Has every part meet a server error until a witness is asked for. Returns how many.
    fn errors_until_asked(bisect: &mut Bisect) -> usize {
        let is_sent = |_: &usize| {
            let sends = matches!(bisect.step(), Step::Send(_));
            sends.then(|| bisect.server_error()).is_some()
        };
        (0..).take_while(is_sent).count()
    }

    /// A witness was good for as many requests as there were series, and a culprit for as long as the request lasted.
    #[test]
    fn a_target_that_falls_ill_after_a_witness_is_asked_for_another() {
        let mut bisect = Bisect::new(2000);
        let (a_probe, checks) = (2 * 11 + 2, POISON_AFTER as usize + 2 * 11 + 2);
        errors_until_asked(&mut bisect);
        bisect.vouch();
        let errors = errors_until_asked(&mut bisect);
        assert!(errors <= a_probe + checks, "{errors} server errors without a pause");
        bisect.no_witness();
        errors_until_asked(&mut bisect);
        bisect.vouch();
        assert_eq!(bisect.server_error(), Sequel::Wait, "one more failure costs nothing yet");
    }

    #[test]
    fn a_part_may_be_dismissed_without_looking_into_it() {
        let mut bisect = Bisect::new(8);
        bisect.refused();
        assert_eq!(bisect.dismissed(), Sequel::Drop(0..4));
        assert_eq!(bisect.undecided().iter().flat_map(Range::clone).collect::<Vec<_>>(), [4, 5, 6, 7]);
    }
}
