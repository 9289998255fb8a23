//! The signals of one series: mostly one, which stands where the series does.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Signal;

/// Signals of a series, in the order of their monitors. Serialised as a list.
///
/// Nearly all series have one, and so save a look elsewhere.
#[derive(Debug)]
pub(in crate::engine) enum Signals {
    One(Signal),
    Others(Box<[Signal]>),
}

impl Signals {
    /// As a list that can be changed.
    pub(in crate::engine) fn into_vec(self) -> Vec<Signal> {
        match self {
            Self::One(signal) => vec![signal],
            Self::Others(signals) => signals.into_vec(),
        }
    }

    /// Those that stand elsewhere, and have to be asked for before what they point to.
    pub(in crate::engine) fn elsewhere(&self) -> &[Signal] {
        match self {
            Self::One(_) => &[],
            Self::Others(signals) => signals,
        }
    }

    /// Bytes on the heap.
    pub(in crate::engine) fn heap_bytes(&self) -> usize {
        size_of_val(self.elsewhere()) + self.iter().map(Signal::heap_bytes).sum::<usize>()
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self::Others(Box::default())
    }
}

impl From<Vec<Signal>> for Signals {
    fn from(mut signals: Vec<Signal>) -> Self {
        match signals.pop() {
            Some(signal) if signals.is_empty() => Self::One(signal),
            last => Self::Others(signals.into_iter().chain(last).collect()),
        }
    }
}

impl FromIterator<Signal> for Signals {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        signals.into_iter().collect::<Vec<_>>().into()
    }
}

impl Deref for Signals {
    type Target = [Signal];

    fn deref(&self) -> &[Signal] {
        match self {
            Self::One(signal) => std::slice::from_ref(signal),
            Self::Others(signals) => signals,
        }
    }
}

impl DerefMut for Signals {
    fn deref_mut(&mut self) -> &mut [Signal] {
        match self {
            Self::One(signal) => std::slice::from_mut(signal),
            Self::Others(signals) => signals,
        }
    }
}

impl<'a> IntoIterator for &'a mut Signals {
    type Item = &'a mut Signal;
    type IntoIter = std::slice::IterMut<'a, Signal>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl Serialize for Signals {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Signals {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(Self::from)
    }
}
