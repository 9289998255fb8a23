//! What is foreseen of a signal, and when it will cross a limit.

pub mod linear;

/// A limit whose crossing is foretold, in units of the signal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    /// Crossed from below: values at it or above are over it.
    Upper(f64),
    /// Crossed from above: values at it or below are over it.
    Lower(f64),
}

impl Limit {
    /// How far `value` has yet to go before it is over the limit; 0 or less where it is.
    pub fn room(self, value: f64) -> f64 {
        match self {
            Self::Upper(limit) => limit - value,
            Self::Lower(limit) => value - limit,
        }
    }
}

/// Which limit a breach is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threshold {
    /// `threshold="upper"`.
    Upper,
    /// `threshold="lower"`.
    Lower,
}

impl Threshold {
    /// Value of the label `threshold`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Lower => "lower",
        }
    }
}

/// What crosses the limit within the horizon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confidence {
    /// The forecast itself.
    High,
    /// Only the edge of its band.
    Medium,
}

impl Confidence {
    /// Value of the label `confidence`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
        }
    }
}

/// When a limit will be crossed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Breach {
    /// Seconds until the forecast is over the limit, however far ahead; 0 already, infinite never.
    pub seconds: f64,
    /// What crosses within the horizon; `None` for nothing.
    pub confidence: Option<Confidence>,
}
