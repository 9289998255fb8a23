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

mod votes;
mod window;

use serde::{Deserialize, Serialize};

use super::detect::{Band, DetectorKind, Verdict};
use super::monitor::{Direction, Policy};
use crate::series::Sample;
pub use votes::Votes;
use window::TriggerWindow;

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
    #[inline(always)]
    pub fn decide(&mut self, sample: Sample, votes: &Votes, policy: &Policy) -> (Option<Decided>, Lesson) {
        let warm = self.seen >= policy.warm_up;
        self.seen = self.seen.saturating_add(u32::from(!warm));
        let learned = votes.learned();
        let Some(by) = votes.speaking(learned) else {
            return (None, self.lesson(sample.value, None, votes));
        };
        let verdict = votes.of(by);
        let score = judge(sample.value, by, verdict, policy);
        let outside = warm && score > 1.0;
        let (changed, shift) = if outside || self.is_flagged() {
            self.judge_deviation((sample, outside), (by, verdict.band.expected), policy)
        } else {
            self.begin(sample.timestamp);
            self.window.count(sample.timestamp, false, policy.trigger_ms);
            (false, None)
        };
        let decided = Decided {
            score,
            direction: if score > 1.0 { verdict.score.signum() as i8 } else { 0 },
            band: verdict.band,
            by,
            flag: self.is_flagged(),
            changed,
            shift,
        };
        let lesson = match shift {
            Some(_) => Lesson::Learn(sample.value),
            None => self.lesson(sample.value, learned.filter(|_| warm), votes),
        };
        (Some(decided), lesson)
    }

    /// Forgets what is going on, not what was learned: the source ended.
    pub fn end(&mut self) {
        *self = Self { seen: self.seen, ..Self::default() };
    }

    /// Takes an observation into account that is outside, or comes while the flag is raised. Returns whether the flag
    /// changed, and how far an accepted level moved.
    #[inline(never)]
    fn judge_deviation(
        &mut self,
        (sample, outside): (Sample, bool),
        (by, expected): (DetectorKind, f64),
        policy: &Policy,
    ) -> (bool, Option<f64>) {
        let was = self.is_flagged();
        let shift = self.update(sample.timestamp, outside, by, policy).map(|()| self.accept());
        if let Some(Raised { distance: (sum, count), .. }) = self.flag.as_deref_mut()
            && outside
        {
            *sum += sample.value - expected;
            *count = count.saturating_add(1);
        }
        (was != self.is_flagged(), shift)
    }

    /// The window begins to be filled with the first observation.
    #[inline]
    fn begin(&mut self, now: i64) {
        self.window_since = if self.window_since == i64::MAX { now } else { self.window_since };
    }

    /// Moves the flag. Returns whether the level is to be accepted.
    ///
    /// The flag waits until the window could be filled as far as it must be. Behind a hard limit the time
    /// to acceptance begins anew: such a level is never normal.
    #[inline]
    fn update(&mut self, now: i64, outside: bool, by: DetectorKind, policy: &Policy) -> Option<()> {
        self.begin(now);
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
    #[cold]
    fn accept(&mut self) -> f64 {
        let (sum, count) = self.flag.as_ref().map_or((0.0, 0), |raised| raised.distance);
        *self = Self::default();
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }

    /// What may be learned of a value, by whom of those that voted it is known well enough.
    fn lesson(&self, value: f64, known: Option<DetectorKind>, votes: &Votes) -> Lesson {
        match known {
            _ if self.is_flagged() => Lesson::Withhold,
            Some(kind) if votes.score(kind).abs() > 1.0 => {
                let band = votes.of(kind).band;
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
