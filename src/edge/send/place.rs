//! How far one lane of one target has come in the log.
//!
//! The lane claims a record before it sends it; what nobody claimed can still be given up from outside, and
//! exactly one of the two counts its samples.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::edge::journal::Journal;
use crate::edge::log::Head;

/// Witnesses that a lane may have delivered ahead of their turn. More are not asked.
const EARLY_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Place {
    journal: Arc<Journal>,
    target: String,
    pub(super) stream: u16,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Every record below was claimed, passed over or given up.
    next: u64,
    /// What is in hand: not done yet.
    hand: Option<Hand>,
    /// Records from `next` on that were delivered ahead of their turn, or are just being delivered so.
    early: BTreeSet<u64>,
    /// The one of `early` that has no answer yet.
    asked: Option<u64>,
    /// Nothing moves any more.
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hand {
    first: u64,
    last: u64,
    /// When the first came.
    arrival: i64,
}

/// Records that nobody will send any more: those from `from` on, but `early`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GivenUp {
    pub(super) from: u64,
    pub(super) early: BTreeSet<u64>,
}

impl Place {
    /// Where the log says that `target` is in `stream`; at `start` where it says nothing.
    pub(super) fn new(journal: &Arc<Journal>, target: &str, stream: u16, start: u64) -> Self {
        let next = journal.cursor(target, stream).unwrap_or_else(|| {
            journal.move_cursor(target, stream, start);
            start
        });
        let state = State { next, hand: None, early: BTreeSet::new(), asked: None, closed: false };
        Self { journal: Arc::clone(journal), target: target.to_owned(), stream, state: Mutex::new(state) }
    }

    /// Where the lane has to read on.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Takes a record in hand, unless it was delivered ahead of its turn, or given up.
    pub(super) fn claim(&self, head: &Head) -> bool {
        let mut state = self.lock();
        if state.closed || head.sequence < state.next {
            return false;
        }
        state.next = head.sequence + 1;
        if state.early.remove(&head.sequence) {
            self.journal.move_cursor(&self.target, self.stream, state.next);
            return false;
        }
        state.hand = Some(Hand { first: head.sequence, last: head.sequence, arrival: head.arrival });
        true
    }

    /// Takes the next record in hand, too, beside what is; not one that was delivered ahead of its turn, or given up.
    pub(super) fn claim_too(&self, head: &Head) -> bool {
        let mut state = self.lock();
        if state.closed || head.sequence < state.next || state.early.contains(&head.sequence) {
            return false;
        }
        let Some(hand) = &mut state.hand else { return false };
        hand.last = head.sequence;
        state.next = head.sequence + 1;
        true
    }

    /// Gives back what is in hand behind the first, to be claimed again. Returns for what reason its samples are still to
    /// be counted: all that waited was given up meanwhile.
    pub(super) fn give_back(&self) -> Option<&'static str> {
        let mut state = self.lock();
        let hand = state.hand.as_mut()?;
        let (first, last) = (hand.first, hand.last);
        hand.last = first;
        match state.next == last + 1 {
            _ if state.closed => Some("target_removed"),
            true => {
                state.next = first + 1;
                None
            }
            false => Some("queue_full"),
        }
    }

    /// What is in hand is delivered, or counted: it never comes again.
    pub(super) fn done(&self) {
        let mut state = self.lock();
        if let Some(hand) = state.hand.take()
            && !state.closed
        {
            self.journal.move_cursor(&self.target, self.stream, hand.last + 1);
        }
    }

    /// The record in hand is none that the target is to get.
    pub(super) fn skip(&self) {
        self.lock().hand = None;
    }

    /// There is nothing for the lane below `next`.
    pub(super) fn passed(&self, next: u64) {
        let mut state = self.lock();
        state.next = state.next.max(next);
    }

    /// Takes a record that waits in order to send it ahead of its turn. False where that cannot be.
    pub(super) fn ask(&self, sequence: u64) -> bool {
        let mut state = self.lock();
        let free = !state.closed && sequence >= state.next && state.early.len() < EARLY_MAX;
        let asked = free && state.early.insert(sequence);
        state.asked = asked.then_some(sequence);
        asked
    }

    /// The record that was asked ahead of its turn has its answer. Returns for what reason its samples are still to be
    /// counted: it was not taken, and all that waited with it was given up meanwhile.
    pub(super) fn answered(&self, taken: bool) -> Option<&'static str> {
        let mut state = self.lock();
        let asked = state.asked.take()?;
        // While a lane runs, a place is closed only where its target goes.
        let removed = state.closed.then_some("target_removed");
        let given_up = if asked < state.next { Some("queue_full") } else { removed };
        if !taken || given_up.is_some() {
            state.early.remove(&asked);
        }
        given_up.filter(|_| !taken)
    }

    /// Whether a record was delivered ahead of its turn.
    pub(super) fn is_early(&self, sequence: u64) -> bool {
        self.lock().early.contains(&sequence)
    }

    /// Gives up all records below `before` that nobody claimed. `None` where there can be none.
    pub(super) fn give_up(&self, before: u64) -> Option<GivenUp> {
        let mut state = self.lock();
        if state.closed || before == 0 {
            return None;
        }
        let from = state.next;
        state.next = from.max(before);
        self.journal.move_cursor(&self.target, self.stream, before);
        let later = state.early.split_off(&before);
        let early = std::mem::replace(&mut state.early, later);
        (from < before).then_some(GivenUp { from, early })
    }

    /// Nothing waits below `next`: moves the cursor there, unless something below is in hand. False then.
    pub(super) fn settle(&self, next: u64) -> bool {
        let state = self.lock();
        let settled = state.hand.is_none_or(|hand| hand.first >= next);
        if settled && !state.closed {
            self.journal.move_cursor(&self.target, self.stream, next);
        }
        settled
    }

    /// Gives up everything, for good; what is in hand stays the lane's.
    pub(super) fn close(&self) -> GivenUp {
        let mut state = self.lock();
        state.closed = true;
        GivenUp { from: state.next, early: std::mem::take(&mut state.early) }
    }

    /// When the record in hand came, Unix milliseconds.
    pub(super) fn arrival(&self) -> Option<i64> {
        self.lock().hand.map(|hand| hand.arrival)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::journal::record;
    use crate::edge::telemetry::Metrics;

    fn place() -> Place {
        let journal = Journal::in_memory(1 << 20, 0, Arc::new(Metrics::new()));
        Place::new(&journal, "one", 0, 0)
    }

    fn head(sequence: u64) -> Head {
        Head { sequence, arrival: 0, behind: 0, stream: 0, kind: record::DERIVED }
    }

    fn cursor(place: &Place) -> Option<u64> {
        place.journal.cursor("one", 0)
    }

    #[test]
    fn the_cursor_moves_when_a_record_is_done_and_not_before() {
        let place = place();
        assert!(place.claim(&head(3)));
        assert_eq!((cursor(&place), place.next()), (Some(0), 4));
        place.done();
        assert_eq!(cursor(&place), Some(4));
        assert!(!place.claim(&head(3)), "nothing is sent twice");
    }

    #[test]
    fn what_is_in_hand_together_is_done_together() {
        let place = place();
        assert!(!place.claim_too(&head(1)), "there is nothing in hand");
        assert!(place.claim(&head(1)) && place.ask(4));
        place.answered(true);
        assert!(place.claim_too(&head(3)));
        assert!(!place.claim_too(&head(3)) && !place.claim_too(&head(4)), "nothing is sent twice");
        assert!(!place.settle(2) && !place.settle(4), "a part of it is below");
        let given_up = place.give_up(9).expect("something may wait");
        assert_eq!(given_up, GivenUp { from: 4, early: BTreeSet::from([4]) }, "what is in hand stays");
        place.done();
        assert_eq!((cursor(&place), place.settle(9)), (Some(9), true));
    }

    #[test]
    fn what_is_given_back_is_claimed_again_or_counted() {
        let claimed = || {
            let place = place();
            assert!(place.claim(&head(1)) && place.claim_too(&head(2)) && place.claim_too(&head(5)));
            place
        };
        let place = claimed();
        assert_eq!((place.give_back(), place.next()), (None, 2));
        place.done();
        assert_eq!(cursor(&place), Some(2));
        assert!(place.claim(&head(2)) && place.claim_too(&head(5)));

        let place = claimed();
        assert_eq!(place.give_up(9).map(|given_up| given_up.from), Some(6));
        assert_eq!((place.give_back(), place.next()), (Some("queue_full"), 9));

        let place = claimed();
        assert_eq!(place.close().from, 6);
        assert_eq!(place.give_back(), Some("target_removed"));
    }

    #[test]
    fn a_record_is_sent_or_given_up_and_never_both() {
        let place = place();
        assert!(place.claim(&head(1)));
        let given_up = place.give_up(5).expect("something may wait");
        assert_eq!(given_up, GivenUp { from: 2, early: BTreeSet::new() }, "what is in hand stays");
        assert!(!place.claim(&head(4)));
        assert_eq!(place.give_up(5), None, "nothing is given up twice");
        place.done();
        assert_eq!(cursor(&place), Some(5), "never back");
        assert!(place.claim(&head(5)));
    }

    #[test]
    fn a_witness_is_counted_by_the_one_who_knows_its_answer() {
        for (taken, still_to_be_counted) in [(true, None), (false, Some("queue_full"))] {
            let place = place();
            assert!(place.claim(&head(0)) && place.ask(3));
            let given_up = place.give_up(5).expect("something may wait");
            assert_eq!(given_up.early, BTreeSet::from([3]), "not by the one who makes room");
            assert_eq!(place.answered(taken), still_to_be_counted);
        }
    }

    /// It stands among those that the remover leaves out, and its lane had not heard of the end yet.
    #[test]
    fn a_witness_of_a_closed_place_is_counted_by_its_lane() {
        for taken in [true, false] {
            let place = place();
            assert!(place.claim(&head(0)) && place.ask(3));
            assert_eq!(place.close().early, BTreeSet::from([3]));
            assert_eq!(place.answered(taken), (!taken).then_some("target_removed"));
        }
    }

    #[test]
    fn a_witness_that_was_taken_is_passed_over_and_another_stays() {
        let place = place();
        assert!(place.claim(&head(0)));
        for (sequence, taken) in [(2, true), (3, false)] {
            assert!(place.ask(sequence));
            assert_eq!(place.answered(taken), None);
        }
        place.done();
        assert!(!place.claim(&head(2)));
        assert_eq!(cursor(&place), Some(3), "the log need not keep it");
        assert!(place.claim(&head(3)));
    }

    #[test]
    fn what_is_remembered_of_witnesses_is_bounded() {
        let place = place();
        let taken = |sequence: &u64| {
            let asked = place.ask(*sequence);
            place.answered(true);
            asked
        };
        assert_eq!((1..).take_while(taken).count(), EARLY_MAX);
    }

    #[test]
    fn a_closed_place_moves_no_cursor() {
        let place = place();
        assert!(place.claim(&head(0)));
        assert_eq!(place.close().from, 1);
        place.done();
        assert!(!place.claim(&head(1)) && !place.ask(2) && place.give_up(9).is_none());
        assert_eq!(cursor(&place), Some(0));
    }
}
