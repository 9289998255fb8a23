//! Names and labels of what is written back, spliced from the source's own label bytes.
//!
//! A derived series keeps the source's labels, loses `__name__`, and gains `metric_name`, `monitor` and,
//! where it is not `value`, `stat`. A source label of one of these names, or of a name that only some outputs
//! have, becomes `exported_…` in all of them, as in a Prometheus scrape.
//!
//! Nothing of it is kept, but the labels of a source that has some of ours, renamed. What all outputs share is woven from
//! the source's labels, and nothing is copied, since where they are cut is remembered as [`Seams`]; a label that only one
//! output has is spliced in where it sorts.

use super::detect::DetectorKind;
use super::forecast::Threshold;
use crate::series::{
    GAINED, LabelRun, LabelRunBuf, METRIC_NAME, Sample, Seams, SeriesHash, Woven, push_label,
};

/// What every name that promantis writes starts with. Input under such a name is refused: Prometheus
/// sends our own series back to us.
pub const PREFIX: &str = "ml_";

/// Names of the labels that only some outputs have.
const EXTRA_NAMES: [&str; 4] = ["confidence", "detector", "horizon", "threshold"];

/// The label `__name__` with a value, which is short, as bytes of a run.
macro_rules! named {
    ($name:literal) => {{
        const BYTES: [u8; NAME_HEAD.len() + $name.len()] = label_bytes($name);
        &BYTES
    }};
}

/// Length, name and again length: the first and the last byte are those of a label with an empty value.
const NAME_HEAD: [u8; 14] = *b"\x0a\x0c\x0a\x08__name__\x12\x00";

const fn label_bytes<const N: usize>(value: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let (head, tail) = bytes.split_at_mut(NAME_HEAD.len());
    head.copy_from_slice(&NAME_HEAD);
    tail.copy_from_slice(value.as_bytes());
    bytes[1] += value.len() as u8;
    bytes[13] += value.len() as u8;
    bytes
}

/// One derived series of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output<'a> {
    /// `ml_anomaly_score`.
    Score,
    /// `ml_anomaly_flag`.
    Flag,
    /// `ml_anomaly_direction`.
    Direction,
    /// `ml_detector_score`.
    Detector(DetectorKind),
    /// `ml_expected`.
    Expected,
    /// `ml_expected_lower`.
    ExpectedLower,
    /// `ml_expected_upper`.
    ExpectedUpper,
    /// `ml_forecast` for a horizon.
    Forecast(&'a str),
    /// `ml_forecast_lower` for a horizon.
    ForecastLower(&'a str),
    /// `ml_forecast_upper` for a horizon.
    ForecastUpper(&'a str),
    /// `ml_forecast_breach_seconds`.
    BreachSeconds(Threshold),
    /// `ml_forecast_breach` of high confidence: the line crosses.
    BreachHigh(Threshold),
    /// `ml_forecast_breach` of medium confidence: only the band crosses.
    BreachMedium(Threshold),
}

impl<'a> Output<'a> {
    /// The label that names the metric, as it stands in a run.
    pub const fn name_label(self) -> &'static [u8] {
        match self {
            Self::Score => named!("ml_anomaly_score"),
            Self::Flag => named!("ml_anomaly_flag"),
            Self::Direction => named!("ml_anomaly_direction"),
            Self::Detector(_) => named!("ml_detector_score"),
            Self::Expected => named!("ml_expected"),
            Self::ExpectedLower => named!("ml_expected_lower"),
            Self::ExpectedUpper => named!("ml_expected_upper"),
            Self::Forecast(_) => named!("ml_forecast"),
            Self::ForecastLower(_) => named!("ml_forecast_lower"),
            Self::ForecastUpper(_) => named!("ml_forecast_upper"),
            Self::BreachSeconds(_) => named!("ml_forecast_breach_seconds"),
            Self::BreachHigh(_) | Self::BreachMedium(_) => named!("ml_forecast_breach"),
        }
    }

    /// Labels that only this output has, sorted by name; empty where there are fewer than two.
    const fn extra(self) -> [(&'static str, &'a str); 2] {
        const NONE: (&str, &str) = ("", "");
        match self {
            Self::Detector(kind) => [("detector", kind.name()), NONE],
            Self::Forecast(horizon) | Self::ForecastLower(horizon) | Self::ForecastUpper(horizon) => {
                [("horizon", horizon), NONE]
            }
            Self::BreachSeconds(side) => [("threshold", side.name()), NONE],
            Self::BreachHigh(side) => [("confidence", "high"), ("threshold", side.name())],
            Self::BreachMedium(side) => [("confidence", "medium"), ("threshold", side.name())],
            _ => [NONE, NONE],
        }
    }
}

/// Whose labels are derived from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Those of the source.
    pub labels: LabelRun<'a>,
    /// Its seams, where it has any.
    pub seams: Option<Seams>,
}

/// How labels are derived from those of a series: found once, 16 bytes.
#[derive(Clone, Debug)]
pub enum Way {
    /// By its seams.
    Seams(Seams),
    /// It has labels of ours: by the seams of its labels with these renamed, which are kept.
    Renamed(Box<(Box<[u8]>, Seams)>),
    /// Anew each time.
    Long,
}

impl Way {
    /// Looks at the labels of a series.
    pub fn of(labels: LabelRun<'_>) -> Self {
        if let Some(seams) = seams_of(labels) {
            return Self::Seams(seams);
        }
        // Whether `stat` has to be renamed, too, depends on the signal.
        let ours = |name| ["metric_name", "monitor"].contains(&name) || EXTRA_NAMES.contains(&name);
        let mut renamed = LabelRunBuf::default();
        for label in labels.iter() {
            match ours(label.name) {
                true => renamed.set(&exported(label.name, labels), label.value),
                false => renamed.set(label.name, label.value),
            };
        }
        let renamed = renamed.encode();
        match seams_of(LabelRun::from_canonical(&renamed)) {
            Some(seams) => Self::Renamed(Box::new((renamed, seams))),
            None => Self::Long,
        }
    }

    /// What is derived from, where a series has these labels.
    pub fn origin<'a>(&'a self, labels: LabelRun<'a>) -> Origin<'a> {
        match self {
            Self::Seams(seams) => Origin { labels, seams: Some(*seams) },
            Self::Renamed(renamed) => {
                Origin { labels: LabelRun::from_canonical(&renamed.0), seams: Some(renamed.1) }
            }
            Self::Long => Origin { labels, seams: None },
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Renamed(renamed) => size_of_val(&**renamed) + renamed.0.len(),
            Self::Seams(_) | Self::Long => 0,
        }
    }
}

/// Seams, unless a label is to be renamed since it has a name that only some outputs' labels have.
fn seams_of(labels: LabelRun<'_>) -> Option<Seams> {
    let rename = labels.iter().any(|label| EXTRA_NAMES.contains(&label.name));
    if rename { None } else { Seams::of(labels) }
}

/// The name under which a label called `name` goes on, which no other of `source` has.
fn exported(name: &str, source: LabelRun<'_>) -> String {
    let mut name = format!("exported_{name}");
    while source.get(&name).is_some() {
        name.insert_str(0, "exported_");
    }
    name
}

/// Labels that all derived series of a signal share, without a name.
///
/// They are put together only where somebody asks.
#[derive(Clone, Copy, Debug)]
pub enum DerivedLabels<'a> {
    /// By the seams of the source's labels.
    Woven(Woven<'a>),
    /// Anew each time, since the source has no seams.
    Long {
        /// Labels of the source.
        source: LabelRun<'a>,
        /// Whose signal it is.
        monitor: &'a str,
        /// What is observed of the source; nothing where that is its value.
        stat: &'a str,
    },
}

impl<'a> DerivedLabels<'a> {
    /// Those that a monitor of this name derives from the labels of a source.
    #[inline]
    pub fn new(
        Origin { labels: source, seams }: Origin<'a>,
        monitor: &'a str,
        stat: Option<&'a str>,
    ) -> Self {
        let stat = stat.unwrap_or_default();
        match seams {
            Some(seams) => Self::Woven(Woven { source, seams, monitor, stat }),
            None => Self::Long { source, monitor, stat },
        }
    }

    /// Identity of the signal whose labels these are: a hash of them.
    pub fn id(&self) -> u64 {
        SeriesHash::of(LabelRun::from_canonical(&self.to_run())).low()
    }

    /// A canonical run of the shared labels.
    pub fn to_run(&self) -> Box<[u8]> {
        let mut run = Vec::new();
        self.write(&mut run);
        run.into()
    }

    /// Hands a sample for each of `outputs` to `take`; these have no labels of their own.
    #[inline]
    pub fn plain(
        &self,
        outputs: &[(&'static [u8], f64)],
        timestamp: i64,
        scratch: &mut Scratch,
        take: impl FnOnce(&Derived<'_>),
    ) {
        match self {
            Self::Woven(woven) => take(&Derived { labels: Labels::Woven(woven), outputs, timestamp }),
            Self::Long { .. } => {
                scratch.run.clear();
                let before = self.write(&mut scratch.run);
                let (before, after) = scratch.run.split_at(before);
                take(&Derived { labels: Labels::Parts(before, &[after]), outputs, timestamp });
            }
        }
    }

    /// Hands the sample of `output` to `take`, with the labels that only this output has.
    pub fn splice(
        &self,
        output: Output<'_>,
        Sample { timestamp, value }: Sample,
        scratch: &mut Scratch,
        take: impl FnOnce(&Derived<'_>),
    ) {
        let Scratch { run, single } = scratch;
        run.clear();
        single.clear();
        let before = self.write(run);
        let shared = LabelRun::from_canonical(run);
        let mut after: [&[u8]; 5] = [&[]; 5];
        let extra = output.extra().map(|(name, value)| {
            let start = single.len();
            if !name.is_empty() {
                push_label(single, name.as_bytes(), value.as_bytes());
            }
            (shared.insertion_point(name).max(before), start..single.len())
        });
        let mut from = before;
        for (index, (at, label)) in extra.into_iter().filter(|(_, label)| !label.is_empty()).enumerate() {
            (after[2 * index], after[2 * index + 1]) = (&run[from..at], &single[label]);
            from = at;
        }
        after[4] = &run[from..];
        let outputs = [(output.name_label(), value)];
        take(&Derived { labels: Labels::Parts(&run[..before], &after), outputs: &outputs, timestamp });
    }

    /// Appends them. Returns how much of them stands in front of a name.
    fn write(&self, room: &mut Vec<u8>) -> usize {
        match self {
            Self::Woven(woven) => woven.write(room),
            Self::Long { source, monitor, stat } => {
                let run = rename(*source, monitor, stat);
                room.extend_from_slice(&run);
                LabelRun::from_canonical(&run).insertion_point(METRIC_NAME)
            }
        }
    }
}

/// Samples of one instant to write back, each in a series of its own. These differ in their names alone.
#[derive(Clone, Copy, Debug)]
pub struct Derived<'a> {
    /// Labels without the name.
    pub labels: Labels<'a>,
    /// Names, each a whole label, and values.
    pub outputs: &'a [(&'static [u8], f64)],
    /// Unix milliseconds.
    pub timestamp: i64,
}

/// Labels that series of one instant share. Put together with a name, they are a canonical run.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// Those of a source, rearranged.
    Woven(&'a Woven<'a>),
    /// What stands in front of the name, which is seldom anything, but `A` does, and in parts what stands behind it.
    Parts(&'a [u8], &'a [&'a [u8]]),
}

impl Derived<'_> {
    /// The label run of each series, put together, and its sample. Copies the labels twice.
    pub fn series(&self) -> impl Iterator<Item = (Box<[u8]>, Sample)> {
        let mut shared = Vec::new();
        let before = match self.labels {
            Labels::Woven(woven) => woven.write(&mut shared),
            Labels::Parts(before, after) => {
                shared.extend_from_slice(before);
                after.iter().for_each(|part| shared.extend_from_slice(part));
                before.len()
            }
        };
        self.outputs.iter().map(move |&(name, value)| {
            let run = [&shared[..before], name, &shared[before..]].concat().into();
            (run, Sample { timestamp: self.timestamp, value })
        })
    }
}

/// Derives the long way: labels of ours in the source are renamed.
fn rename(source: LabelRun<'_>, monitor: &str, stat: &str) -> Box<[u8]> {
    let gained = [source.metric_name().unwrap_or_default(), monitor, stat];
    let gained = || GAINED.into_iter().zip(gained).filter(|(_, value)| !value.is_empty());
    let mut labels = LabelRunBuf::default();
    for label in source.iter().filter(|label| label.name != METRIC_NAME) {
        let gains = gained().any(|(own, _)| own == label.name);
        match gains || EXTRA_NAMES.contains(&label.name) {
            true => labels.set(&exported(label.name, source), label.value),
            false => labels.set(label.name, label.value),
        };
    }
    for (name, value) in gained() {
        labels.set(name, value);
    }
    labels.encode()
}

/// Room for labels that are put together, reused from sample to sample.
#[derive(Default, Debug)]
pub struct Scratch {
    /// What all outputs of a signal share.
    run: Vec<u8>,
    /// What only one output has.
    single: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(labels: &[(&str, &str)]) -> Box<[u8]> {
        labels.iter().copied().collect::<LabelRunBuf>().encode()
    }

    /// Derives from `source` and compares with the run of `expected`.
    fn check(source: &[(&str, &str)], stat: Option<&str>, output: Output<'_>, expected: &[(&str, &str)]) {
        let source = run(source);
        let way = Way::of(LabelRun::from_canonical(&source));
        let origin = way.origin(LabelRun::from_canonical(&source));
        let (mut scratch, mut spliced) = Default::default();
        let labels = DerivedLabels::new(origin, "m", stat);
        let sample = Sample { timestamp: 7, value: 0.5 };
        let taken = |derived: &Derived<'_>| derived.series().collect::<Vec<_>>();
        labels.splice(output, sample, &mut scratch, |derived| spliced = taken(derived));
        let (spliced, found) = spliced.pop().unwrap();
        assert_eq!(found, sample);
        if output.extra()[0].0.is_empty() {
            let outputs = [(output.name_label(), 0.5)];
            labels.plain(&outputs, 7, &mut scratch, |derived| {
                assert_eq!(taken(derived), [(spliced.clone(), sample)]);
            });
        }
        assert_eq!(LabelRun::from_canonical(&spliced).to_string(), {
            let expected = run(expected);
            LabelRun::from_canonical(&expected).to_string()
        });
        assert_eq!(*spliced, *run(expected));
    }

    #[test]
    fn names_stand_in_runs_as_any_label_does() {
        let outputs = [Output::Score, Output::BreachSeconds(Threshold::Upper), Output::Expected];
        for (output, name) in
            outputs.into_iter().zip(["ml_anomaly_score", "ml_forecast_breach_seconds", "ml_expected"])
        {
            assert_eq!(output.name_label(), &*run(&[("__name__", name)]));
        }
    }

    #[test]
    fn a_derived_series_keeps_the_labels_and_names_its_source() {
        check(
            &[("__name__", "up"), ("job", "api")],
            None,
            Output::Score,
            &[("__name__", "ml_anomaly_score"), ("job", "api"), ("metric_name", "up"), ("monitor", "m")],
        );
    }

    #[test]
    fn labels_that_sort_before_the_name_stay_before_it() {
        check(
            &[("Zone", "a"), ("__name__", "up"), ("a", "1"), ("z", "2")],
            Some("rate"),
            Output::BreachHigh(Threshold::Lower),
            &[
                ("Zone", "a"),
                ("__name__", "ml_forecast_breach"),
                ("a", "1"),
                ("confidence", "high"),
                ("metric_name", "up"),
                ("monitor", "m"),
                ("stat", "rate"),
                ("threshold", "lower"),
                ("z", "2"),
            ],
        );
    }

    #[test]
    fn labels_of_ours_are_renamed_once_to_what_they_would_be_renamed_to_each_time() {
        let source = run(&[
            ("A", "0"),
            ("__name__", "up"),
            ("detector", "d"),
            ("exported_monitor", "older"),
            ("metric_name", "x"),
            ("monitor", "theirs"),
        ]);
        let labels = LabelRun::from_canonical(&source);
        let way = Way::of(labels);
        assert!(matches!(way, Way::Renamed(_)));
        let build = |origin, stat| {
            let labels = DerivedLabels::new(origin, "m", stat);
            (labels.to_run(), labels.id(), labels.write(&mut Vec::new()))
        };
        for stat in [None, Some("rate")] {
            assert_eq!(build(way.origin(labels), stat), build(Way::Long.origin(labels), stat));
        }
    }

    #[test]
    fn a_source_label_under_our_name_is_exported() {
        check(
            &[
                ("__name__", "up"),
                ("monitor", "theirs"),
                ("exported_monitor", "older"),
                ("stat", "s"),
                ("horizon", "x"),
            ],
            None,
            Output::Forecast("1h"),
            &[
                ("__name__", "ml_forecast"),
                ("exported_exported_monitor", "theirs"),
                ("exported_horizon", "x"),
                ("exported_monitor", "older"),
                ("horizon", "1h"),
                ("metric_name", "up"),
                ("monitor", "m"),
                ("stat", "s"),
            ],
        );
    }
}
