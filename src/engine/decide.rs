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

    /// What was learned, and who speaks for it: the calmer of the short memory and the long one.
    ///
    /// The short memory is the median of the methods that share the window. The long one is the baseline, and
    /// the z-score only where there is none: it takes the daily rhythm for spread.
    fn learned(&self) -> Option<(DetectorKind, Verdict)> {
        let vote = |kind: DetectorKind| self.0[kind as usize].map(|verdict| (kind, verdict));
        let short = middle([DetectorKind::RollingZScore, DetectorKind::Mad, DetectorKind::Iqr].map(vote));
        let long = vote(DetectorKind::Baseline).or_else(|| vote(DetectorKind::ZScore));
        middle([short, long, None])
    }

    /// Who speaks for all: the static limits where they are crossed or nothing is learned, else `learned`.
    fn speaking(&self, learned: Option<(DetectorKind, Verdict)>) -> Option<(DetectorKind, Verdict)> {
        let limits = self.0[DetectorKind::Static as usize].map(|vote| (DetectorKind::Static, vote));
        match limits {
            Some((_, vote)) if vote.score.abs() > 1.0 => limits,
            _ => learned.or(limits),
        }
    }
}

/// The vote with the middle score; of two, the one nearer to what was expected.
fn middle(votes: [Option<(DetectorKind, Verdict)>; 3]) -> Option<(DetectorKind, Verdict)> {
    match votes {
        [Some(a), Some(b), Some(c)] => {
            let mut three = [a, b, c];
            three.sort_by(|(_, a), (_, b)| a.score.total_cmp(&b.score));
            Some(three[1])
        }
        two => two.into_iter().flatten().min_by(|(_, a), (_, b)| a.score.abs().total_cmp(&b.score.abs())),
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Decision {
    /// Observations until a flag may be raised, counted up to the warm-up.
    seen: u32,
    flagged: bool,
    flagged_since: i64,
    last_outside: i64,
    /// When the window began to be filled.
    window_since: Option<i64>,
    /// Sum and count of distances from the expected value, of what was outside while flagged.
    distance: (f64, u32),
    window: TriggerWindow,
}

impl Decision {
    /// Whether the flag is raised.
    pub fn is_flagged(&self) -> bool {
        self.flagged
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
        let was = self.flagged;
        let outside = warm && score > 1.0;
        let shift = self.update(sample.timestamp, outside, by, policy).map(|()| self.accept());
        if self.flagged && outside {
            self.distance.0 += sample.value - verdict.band.expected;
            self.distance.1 = self.distance.1.saturating_add(1);
        }
        let decided = Decided {
            score,
            direction: if score > 1.0 { verdict.score.signum() as i8 } else { 0 },
            band: verdict.band,
            by,
            flag: self.flagged,
            changed: was != self.flagged,
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
        let observed = now.saturating_sub(*self.window_since.get_or_insert(now));
        let filled = observed as f64 >= policy.fraction * policy.trigger_ms as f64;
        let share = self.window.observe(now, outside, policy.trigger_ms);
        if outside {
            self.last_outside = now;
        }
        if !self.flagged && outside && filled && share >= policy.fraction {
            (self.flagged, self.flagged_since, self.distance) = (true, now, (0.0, 0));
        } else if self.flagged && !outside && now.saturating_sub(self.last_outside) >= policy.recovery_ms {
            self.flagged = false;
        }
        if outside && by == DetectorKind::Static {
            (self.flagged_since, self.distance) = (now, (0.0, 0));
        }
        let lasted = now.saturating_sub(self.flagged_since);
        (self.flagged && outside && lasted >= policy.accept_after_ms).then_some(())
    }

    /// Takes the level for the new normal: lowers the flag, warms up again, and tells by how much the
    /// level moved.
    fn accept(&mut self) -> f64 {
        let (sum, count) = self.distance;
        *self = Self::default();
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }

    fn lesson(&self, value: f64, learned: Option<(DetectorKind, Verdict)>, warm: bool) -> Lesson {
        match learned {
            _ if self.flagged => Lesson::Withhold,
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
