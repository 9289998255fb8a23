//! Which files there are: as seen, and as they would be after a loss of power.

use std::collections::BTreeMap;

use super::dice::Dice;

/// Names of files and the number of the image behind each.
#[derive(Default, Debug)]
pub(super) struct Names {
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes that are seen and not yet durable, oldest first.
    pending: Vec<Change>,
    /// Whether changes become durable in their order, as in a journal, or in any.
    orderly: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Created(String, usize),
    Renamed { from: String, to: String, image: usize },
    Removed(String),
}

impl Change {
    fn names(&self) -> [&str; 2] {
        match self {
            Self::Created(name, _) | Self::Removed(name) => [name, name],
            Self::Renamed { from, to, .. } => [from, to],
        }
    }

    fn touches(&self, other: &Self) -> bool {
        self.names().iter().any(|name| other.names().contains(name))
    }
}

impl Names {
    pub(super) fn new(orderly: bool) -> Self {
        Self { orderly, ..Self::default() }
    }

    pub(super) fn is_orderly(&self) -> bool {
        self.orderly
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<usize> {
        self.seen.get(name).copied()
    }

    pub(super) fn create(&mut self, name: &str, image: usize) {
        self.change(Change::Created(name.to_owned(), image));
    }

    /// False where there is none of that name.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let image = self.get(from);
        image.inspect(|image| {
            self.change(Change::Renamed { from: from.to_owned(), to: to.to_owned(), image: *image });
        });
        image.is_some()
    }

    /// False where there is none of that name.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let found = self.seen.contains_key(name);
        if found {
            self.change(Change::Removed(name.to_owned()));
        }
        found
    }

    pub(super) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        pending.iter().for_each(|change| apply(&mut self.durable, change));
    }

    /// Some of the changes become durable of the system's own accord: the oldest, or any, but those of one name in
    /// their order.
    pub(super) fn write_back(&mut self, dice: &mut Dice) {
        let oldest = dice.below(self.pending.len() + 1);
        let mut left: Vec<Change> = Vec::new();
        for (at, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let may = !left.iter().any(|earlier| earlier.touches(&change));
            let survives = if self.orderly { at < oldest } else { may && dice.once_in(2) };
            if survives {
                apply(&mut self.durable, &change);
            } else {
                left.push(change);
            }
        }
        self.pending = left;
    }

    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        self.write_back(dice);
        self.pending.clear();
        self.seen.clone_from(&self.durable);
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.pending.push(change);
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Created(name, image) => {
            names.insert(name.clone(), *image);
        }
        Change::Renamed { from, to, image } => {
            if names.get(from) == Some(image) {
                names.remove(from);
            }
            names.insert(to.clone(), *image);
        }
        Change::Removed(name) => {
            names.remove(name);
        }
    }
}
