//! The ledger of a trial: what was sent, what was acknowledged, and what came of it at the target.
//!
//! Every sample sent owes two derived samples, a score and a flag. A debt is settled when the target took the
//! derived sample, or refused it alone and for good.

use super::load::{SENDERS, SERIES, score};

/// Derived samples that one request owes.
const OWED: usize = SERIES * KINDS.len();
/// What is derived of each sample.
const KINDS: [&str; 2] = ["ml_anomaly_score", "ml_anomaly_flag"];
/// Problems kept; one is enough to fail.
const PROBLEMS_MAX: usize = 20;

/// One derived sample, by what it was derived from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    sender: usize,
    /// Counts the requests of the sender.
    request: usize,
    /// Position in `KINDS` and number of the series, in one.
    column: usize,
}

impl Mark {
    /// `None` where nothing of this kind is owed.
    pub(crate) fn new(kind: &str, sender: usize, series: usize, request: usize) -> Option<Self> {
        let kind = KINDS.iter().position(|known| *known == kind)?;
        (sender < SENDERS && series < SERIES).then_some(Self {
            sender,
            request,
            column: kind * SERIES + series,
        })
    }

    /// A number of its own.
    pub(crate) fn hash(self) -> u64 {
        ((self.request * SENDERS + self.sender) * OWED + self.column) as u64
    }

    /// What its value must be, where that is a matter of one sample alone.
    fn value(self) -> Option<f64> {
        (self.column < SERIES).then(|| score(self.column, self.request))
    }
}

/// What became of one derived sample.
#[derive(Clone, Copy, Default, Debug)]
struct Fate {
    taken: u8,
    refused: bool,
    /// As it was taken first. Scores and flags of a trial are small whole numbers.
    value: f32,
}

/// The account of one sender.
#[derive(Debug)]
struct Account {
    /// `OWED` for each request sent so far.
    fates: Vec<Fate>,
    /// Requests acknowledged; always the first ones, since each is repeated until it is.
    acknowledged: usize,
    /// The latest request that each derived series had a sample of.
    latest: Vec<usize>,
}

/// All accounts.
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    open: usize,
    arrivals: usize,
    disorder: usize,
    problems: Vec<String>,
}

/// How the accounts stand.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Balance {
    /// Samples that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Derived samples that these owe.
    pub(crate) owed: usize,
    /// Of these, refused by the target and never taken.
    pub(crate) refused: usize,
    /// Of these, neither taken nor refused.
    pub(crate) lost: usize,
    /// How often a derived sample was taken once more.
    pub(crate) duplicates: usize,
    /// Derived samples that came after a later one of their series.
    pub(crate) disorder: usize,
    /// What should not have come at all.
    pub(crate) problems: Vec<String>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let account = |_| Account { fates: Vec::new(), acknowledged: 0, latest: vec![0; OWED] };
        let accounts = (0..SENDERS).map(account).collect();
        Self { accounts, open: 0, arrivals: 0, disorder: 0, problems: Vec::new() }
    }

    /// A sender is about to send its next request, for the first time.
    pub(crate) fn sent(&mut self, sender: usize) {
        let fates = &mut self.accounts[sender].fates;
        fates.resize(fates.len() + OWED, Fate::default());
        self.open += OWED;
    }

    /// The oldest request of a sender that was not acknowledged yet now is.
    pub(crate) fn acknowledged(&mut self, sender: usize) {
        self.accounts[sender].acknowledged += 1;
    }

    /// The target took a derived sample.
    pub(crate) fn taken(&mut self, mark: Mark, value: f64) {
        self.arrivals += 1;
        if mark.value().is_some_and(|expected| expected != value) {
            self.problem(format!("{mark:?} is {value}"));
        }
        let earlier = self.settle(mark, |fate| {
            fate.taken = fate.taken.saturating_add(1);
            if fate.taken == 1 {
                fate.value = value as f32;
            }
        });
        if earlier.taken > 0 {
            return;
        }
        let latest = &mut self.accounts[mark.sender].latest[mark.column];
        if mark.request < *latest {
            self.disorder += 1;
            let refused = if earlier.refused { ", refused before" } else { "" };
            println!("{mark:?}{refused} came after request {latest}");
        }
        *latest = mark.request.max(*latest);
    }

    /// The target refused a derived sample, alone and for good.
    pub(crate) fn refused(&mut self, mark: Mark) {
        self.settle(mark, |fate| fate.refused = true);
    }

    /// Notes what should not have come.
    pub(crate) fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    /// Requests that were acknowledged.
    pub(crate) fn acknowledgements(&self) -> usize {
        self.accounts.iter().map(|account| account.acknowledged).sum()
    }

    /// Derived samples of everything sent that have not come to an end.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Derived samples that were taken so far, each time counted.
    pub(crate) fn arrivals(&self) -> usize {
        self.arrivals
    }

    /// What the target took, as it came first; `None` where it took nothing.
    pub(crate) fn value(&self, mark: Mark) -> Option<f64> {
        let fate = self.accounts[mark.sender].fates.get(mark.request * OWED + mark.column)?;
        (fate.taken > 0).then(|| f64::from(fate.value))
    }

    /// How many different derived samples the target took.
    pub(crate) fn different(&self) -> usize {
        let fates = self.accounts.iter().flat_map(|account| &account.fates);
        fates.filter(|fate| fate.taken > 0).count()
    }

    /// Closes the accounts.
    pub(crate) fn balance(&self) -> Balance {
        let mut balance =
            Balance { disorder: self.disorder, problems: self.problems.clone(), ..Balance::default() };
        for account in &self.accounts {
            let owed = account.acknowledged * OWED;
            balance.acknowledged += account.acknowledged * SERIES;
            balance.owed += owed;
            for (at, fate) in account.fates.iter().enumerate() {
                balance.duplicates += usize::from(fate.taken.saturating_sub(1));
                let missing = at < owed && fate.taken == 0;
                balance.refused += usize::from(missing && fate.refused);
                balance.lost += usize::from(missing && !fate.refused);
            }
        }
        balance
    }

    /// Changes the fate of a derived sample, and tells what it was before.
    fn settle(&mut self, mark: Mark, change: impl FnOnce(&mut Fate)) -> Fate {
        let fate = self.accounts[mark.sender].fates.get_mut(mark.request * OWED + mark.column);
        let Some(fate) = fate else {
            self.problem(format!("{mark:?} was never sent"));
            return Fate::default();
        };
        let earlier = *fate;
        change(fate);
        self.open -= usize::from(earlier.taken == 0 && !earlier.refused);
        earlier
    }
}

/// Everything that two requests of the first sender owe, in order.
fn two_requests() -> Vec<Mark> {
    let marks = (0..2).flat_map(|request| {
        let of_kind = move |kind| (0..SERIES).filter_map(move |series| Mark::new(kind, 0, series, request));
        KINDS.into_iter().flat_map(of_kind)
    });
    marks.collect()
}

/// A ledger of two acknowledged requests whose derived samples all came, but for what `changed` leaves out or
/// adds, against what its balance must say: refused, lost, duplicates, disorder.
#[track_caller]
fn check(changed: impl Fn(&mut Vec<Mark>), refused: &[Mark], expected: [usize; 4]) {
    let mut ledger = Ledger::new();
    for _ in 0..2 {
        ledger.sent(0);
        ledger.acknowledged(0);
    }
    let mut marks = two_requests();
    changed(&mut marks);
    marks.iter().for_each(|&mark| ledger.taken(mark, mark.value().unwrap_or_default()));
    refused.iter().for_each(|&mark| ledger.refused(mark));
    let balance = ledger.balance();
    assert_eq!(balance.acknowledged, 2 * SERIES);
    assert_eq!([balance.refused, balance.lost, balance.duplicates, balance.disorder], expected);
    assert_eq!(ledger.open(), balance.lost, "what is lost stays open");
    assert_eq!(balance.problems, [""; 0]);
}

#[test]
fn the_ledger_notices_what_is_lost_repeated_or_out_of_order() {
    let one = two_requests()[OWED];
    check(|_| (), &[], [0, 0, 0, 0]);
    check(|marks| _ = marks.remove(OWED), &[], [0, 1, 0, 0]);
    check(|marks| _ = marks.remove(0), &[one], [0, 1, 0, 0]);
    check(|marks| _ = marks.remove(OWED), &[one], [1, 0, 0, 0]);
    check(|marks| marks.truncate(OWED), &[], [0, OWED, 0, 0]);
    check(|marks| marks.push(one), &[], [0, 0, 1, 0]);
    check(|marks| marks.swap(3, OWED + 3), &[], [0, 0, 0, 1]);
}

#[test]
fn the_ledger_asks_nothing_of_what_was_not_acknowledged() {
    let mut ledger = Ledger::new();
    ledger.sent(0);
    assert_eq!(ledger.balance(), Balance::default());
}

#[test]
fn the_ledger_notices_what_was_never_sent_and_a_wrong_score() {
    let mut ledger = Ledger::new();
    let [first, second] = [0, OWED].map(|at| two_requests()[at]);
    ledger.sent(0);
    ledger.taken(second, score(0, 1));
    ledger.taken(first, 0.5);
    assert_eq!(ledger.balance().problems.len(), 2);
}
