//! The one place where votes become a score, a score a flag, and a flag what may be learned.
//!
//! # Design
//! Two memories have to agree that something is wrong: the short one, of the last observations, and the long
//! one, of what is usual at this hour. The calmer speaks, and the band that is shown is the band of the method
//! that spoke. Methods that share a memory share its mistakes, so they have one vote together. On labelled
//! series this raises about half the false alarms of a plain median of all methods. A hard limit that is
//! crossed outranks them, and is never accepted. Policy follows: direction, minimum deviation, warm-up, the
//! trigger and recovery windows. Last, protection: what is flagged is not learned, what is merely outside is
//! learned as the nearest edge, and what stays for long is accepted as the new normal.

mod window;

use serde::{Deserialize, Serialize};

use super::detect::{Band, DetectorKind, Verdict};
use super::monitor::{Direction, Policy};
use crate::series::Sample;
use window::TriggerWindow;

/// What each method said, in the order of [`DetectorKind::ALL`].
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Votes([Option<Verdict>; DetectorKind::ALL.len()]);

impl Votes {
    /// Sets what `kind` said.
    pub fn set(&mut self, kind: DetectorKind, verdict: Option<Verdict>) {
        self.0[kind as usize] = verdict;
    }

    /// Those that said something, in order.
    pub fn iter(&self) -> impl Iterator<Item = (DetectorKind, Verdict)> {
        DetectorKind::ALL.into_iter().zip(self.0).filter_map(|(kind, vote)| Some((kind, vote?)))
    }

    /// Whether a method other than the static limits said something.
    pub fn any_learned(&self) -> bool {
        self.iter().any(|(kind, _)| kind != DetectorKind::Static)
    }

    fn of(&self, kind: DetectorKind) -> Option<(DetectorKind, Verdict)> {
        self.0[kind as usize].map(|verdict| (kind, verdict))
    }

    /// What was learned, and who speaks for it: the calmer of the short memory and the long one.
    ///
    /// The short memory is the median of the methods that share the window. The long one is the baseline, and
    /// the z-score only where there is none: it takes the daily rhythm for spread.
    fn learned(&self) -> Option<(DetectorKind, Verdict)> {
        let short = self.middle([DetectorKind::RollingZScore, DetectorKind::Mad, DetectorKind::Iqr]);
        let long = self.of(DetectorKind::Baseline).or_else(|| self.of(DetectorKind::ZScore));
        calmer(short, long)
    }

    /// The vote with the middle score; of two, the calmer one.
    fn middle(&self, kinds: [DetectorKind; 3]) -> Option<(DetectorKind, Verdict)> {
        let [a, b, c] = kinds.map(|kind| self.0[kind as usize].as_ref());
        let (Some(a), Some(b), Some(c)) = (a, b, c) else {
            return kinds.into_iter().map(|kind| self.of(kind)).reduce(calmer).flatten();
        };
        let least = |one: &Verdict, other: &Verdict| one.score.total_cmp(&other.score).is_le();
        let middle = match (least(a, b), least(b, c), least(a, c)) {
            (true, true, _) | (false, false, _) => 1,
            (true, false, true) | (false, true, false) => 2,
            (true, false, false) | (false, true, true) => 0,
        };
        self.of(kinds[middle])
    }

    /// Who speaks for all: the static limits where they are crossed or nothing is learned, else `learned`.
    fn speaking(&self, learned: Option<(DetectorKind, Verdict)>) -> Option<(DetectorKind, Verdict)> {
        let limits = self.of(DetectorKind::Static);
        match limits {
            Some((_, vote)) if vote.score.abs() > 1.0 => limits,
            _ => learned.or(limits),
        }
    }
}

/// The vote nearer to what it expected; the first of equals.
fn calmer(
    one: Option<(DetectorKind, Verdict)>,
    other: Option<(DetectorKind, Verdict)>,
) -> Option<(DetectorKind, Verdict)> {
    match (&one, &other) {
        (Some((_, a)), Some((_, b))) if a.score.abs().total_cmp(&b.score.abs()).is_gt() => other,
        (None, _) => other,
        _ => one,
    }
}

/// What was decided on one observation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decided {
    /// ≥ 0; 1 is the edge of normal. After direction and minimum deviation.
    pub score: f64,
    /// −1 below, 0 inside, 1 above.
    pub direction: i8,
    /// What was called normal.
    pub band: Band,
    /// Who spoke.
    pub by: DetectorKind,
    /// The flag.
    pub flag: bool,
    /// Whether the flag is another than before.
    pub changed: bool,
    /// How far the level was moved because it was accepted as the new normal.
    pub shift: Option<f64>,
}

/// What the detectors may learn of an observation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Lesson {
    /// This value.
    Learn(f64),
    /// Nothing.
    Withhold,
}

/// Decision state of one signal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Observations until a flag may be raised, counted up to the warm-up.
    seen: u32,
    /// When the window began to be filled; the end of time before.
    window_since: i64,
    window: TriggerWindow,
    /// While the flag is raised.
    flag: Option<Box<Raised>>,
}

/// What matters only while the flag is raised, which it seldom is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Raised {
    since: i64,
    last_outside: i64,
    /// Sum and count of distances from the expected value, of what was outside.
    distance: (f64, u32),
}

impl Default for Decision {
    fn default() -> Self {
        Self { seen: 0, window_since: i64::MAX, window: TriggerWindow::default(), flag: None }
    }
}

impl Decision {
    /// Whether the flag is raised.
    pub fn is_flagged(&self) -> bool {
        self.flag.is_some()
    }

    /// Bytes on the heap: some while something is outside.
    pub fn heap_bytes(&self) -> usize {
        self.window.heap_bytes() + self.flag.as_ref().map_or(0, |_| size_of::<Raised>())
    }

    /// Decides on an observation, and what is to be learned of it.
    ///
    /// Without any vote there is nothing to decide: the flag stays as it is, and everything is learned unless it
    /// is raised.
    pub fn decide(&mut self, sample: Sample, votes: &Votes, policy: &Policy) -> (Option<Decided>, Lesson) {
        let warm = self.seen >= policy.warm_up;
        self.seen = self.seen.saturating_add(u32::from(!warm));
        let learned = votes.learned();
        let Some((by, verdict)) = votes.speaking(learned) else {
            return (None, self.lesson(sample.value, None, warm));
        };
        let score = judge(sample.value, by, verdict, policy);
        let was = self.is_flagged();
        let outside = warm && score > 1.0;
        let shift = self.update(sample.timestamp, outside, by, policy).map(|()| self.accept());
        if let Some(Raised { distance: (sum, count), .. }) = self.flag.as_deref_mut()
            && outside
        {
            *sum += sample.value - verdict.band.expected;
            *count = count.saturating_add(1);
        }
        let decided = Decided {
            score,
            direction: if score > 1.0 { verdict.score.signum() as i8 } else { 0 },
            band: verdict.band,
            by,
            flag: self.is_flagged(),
            changed: was != self.is_flagged(),
            shift,
        };
        let lesson = match shift {
            Some(_) => Lesson::Learn(sample.value),
            None => self.lesson(sample.value, learned, warm),
        };
        (Some(decided), lesson)
    }

    /// Forgets what is going on, not what was learned: the source ended.
    pub fn end(&mut self) {
        *self = Self { seen: self.seen, ..Self::default() };
    }

    /// Moves the flag. Returns whether the level is to be accepted.
    ///
    /// The flag waits until the window could be filled as far as it must be. Behind a hard limit the time
    /// to acceptance begins anew: such a level is never normal.
    fn update(&mut self, now: i64, outside: bool, by: DetectorKind, policy: &Policy) -> Option<()> {
        self.window_since = if self.window_since == i64::MAX { now } else { self.window_since };
        let share = self.window.observe(now, outside, policy.trigger_ms);
        if !outside {
            let recovered = |it: &mut Box<Raised>| now.saturating_sub(it.last_outside) >= policy.recovery_ms;
            self.flag.take_if(recovered);
            return None;
        }
        let observed = now.saturating_sub(self.window_since);
        let filled = observed as f64 >= policy.fraction * policy.trigger_ms as f64;
        if self.flag.is_none() && filled && share >= policy.fraction {
            self.flag = Some(Box::new(Raised { since: now, last_outside: now, distance: (0.0, 0) }));
        }
        let raised = self.flag.as_mut()?;
        raised.last_outside = now;
        if by == DetectorKind::Static {
            (raised.since, raised.distance) = (now, (0.0, 0));
        }
        (now.saturating_sub(raised.since) >= policy.accept_after_ms).then_some(())
    }

    /// Takes the level for the new normal: lowers the flag, warms up again, and tells by how much the
    /// level moved.
    fn accept(&mut self) -> f64 {
        let (sum, count) = self.flag.as_ref().map_or((0.0, 0), |raised| raised.distance);
        *self = Self::default();
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }

    fn lesson(&self, value: f64, learned: Option<(DetectorKind, Verdict)>, warm: bool) -> Lesson {
        match learned {
            _ if self.is_flagged() => Lesson::Withhold,
            Some((_, Verdict { score, band })) if warm && score.abs() > 1.0 => {
                Lesson::Learn(value.clamp(band.lower, band.upper))
            }
            _ => Lesson::Learn(value),
        }
    }
}

/// A greater score says no more: the band has next to no width.
const SCORE_MAX: f64 = 1e6;

/// Applies direction and minimum deviation. A hard limit knows neither.
fn judge(value: f64, by: DetectorKind, verdict: Verdict, policy: &Policy) -> f64 {
    let score = verdict.score.abs().min(SCORE_MAX);
    if by == DetectorKind::Static {
        return score;
    }
    let unwanted = match policy.direction {
        Direction::Above => verdict.score < 0.0,
        Direction::Below => verdict.score > 0.0,
        Direction::Both => false,
    };
    let distance = (value - verdict.band.expected).abs();
    let relative = policy.min_deviation_relative * verdict.band.expected.abs();
    if unwanted {
        0.0
    } else if distance < policy.min_deviation_absolute || distance < relative {
        score.min(1.0)
    } else {
        score
    }
}

#[cfg(test)]
mod tests;
