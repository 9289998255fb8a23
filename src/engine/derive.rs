//! Names and labels of what is written back, spliced from the source's own label bytes.
//!
//! A derived series keeps the source's labels, loses `__name__`, and gains `metric_name`, `monitor` and,
//! where it is not `value`, `stat`. A source label of one of these names, or of a name that only some outputs
//! have, becomes `exported_…` in all of them, as in a Prometheus scrape. The run without `__name__` is built once per signal; the name, and a label that only
//! one output has, are spliced in where they sort.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::detect::DetectorKind;
use super::forecast::Threshold;
use crate::series::{LabelRun, LabelRunBuf, METRIC_NAME, SeriesHash, push_label};

/// What every name that promantis writes starts with. Input under such a name is refused: Prometheus
/// sends our own series back to us.
pub const PREFIX: &str = "ml_";

/// Names of the labels that only some outputs have.
const EXTRA_NAMES: [&str; 4] = ["confidence", "detector", "horizon", "threshold"];

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
    /// The metric's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Score => "ml_anomaly_score",
            Self::Flag => "ml_anomaly_flag",
            Self::Direction => "ml_anomaly_direction",
            Self::Detector(_) => "ml_detector_score",
            Self::Expected => "ml_expected",
            Self::ExpectedLower => "ml_expected_lower",
            Self::ExpectedUpper => "ml_expected_upper",
            Self::Forecast(_) => "ml_forecast",
            Self::ForecastLower(_) => "ml_forecast_lower",
            Self::ForecastUpper(_) => "ml_forecast_upper",
            Self::BreachSeconds(_) => "ml_forecast_breach_seconds",
            Self::BreachHigh(_) | Self::BreachMedium(_) => "ml_forecast_breach",
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

/// Labels that all derived series of a signal share.
#[derive(Clone, Debug)]
pub struct DerivedLabels {
    /// Canonical, without `__name__`. Nothing else is serialised.
    run: Box<[u8]>,
    id: u64,
    /// Where `__name__` is inserted; not always 0, for `A` sorts before `_`.
    name_at: u32,
}

impl DerivedLabels {
    /// Derives from the labels of a source.
    pub fn new(source: LabelRun<'_>, monitor: &str, stat: Option<&str>) -> Self {
        let gained = [
            ("metric_name", source.metric_name().unwrap_or_default()),
            ("monitor", monitor),
            ("stat", stat.unwrap_or_default()),
        ];
        let mut labels = LabelRunBuf::default();
        for label in source.iter().filter(|label| label.name != METRIC_NAME) {
            let mut name = label.name.to_owned();
            let gains = gained.iter().any(|(own, value)| *own == name && !value.is_empty());
            if gains || EXTRA_NAMES.contains(&label.name) {
                name.insert_str(0, "exported_");
                while source.get(&name).is_some() {
                    name.insert_str(0, "exported_");
                }
            }
            labels.set(&name, label.value);
        }
        for (name, value) in gained {
            if !value.is_empty() {
                labels.set(name, value);
            }
        }
        Self::over(labels.encode())
    }

    fn over(bytes: Box<[u8]>) -> Self {
        let run = LabelRun::from_canonical(&bytes);
        let name_at = run.insertion_point(METRIC_NAME) as u32;
        Self { id: SeriesHash::of(run).low(), name_at, run: bytes }
    }

    /// Identity of the signal whose labels these are: a hash of them.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The shared labels, without a name.
    pub fn run(&self) -> LabelRun<'_> {
        LabelRun::from_canonical(&self.run)
    }

    /// Hands the label run of `output` to `take` in parts.
    pub fn splice(&self, output: Output<'_>, scratch: &mut Scratch, take: impl FnOnce(&[&[u8]])) {
        scratch.start();
        let mut inserts = [(self.name_at as usize, 0..0), (0, 0..0), (0, 0..0)];
        inserts[0].1 = scratch.label(METRIC_NAME, output.name());
        let mut count = 1;
        for (name, value) in output.extra().into_iter().filter(|(name, _)| !name.is_empty()) {
            inserts[count] = (self.run().insertion_point(name), scratch.label(name, value));
            count += 1;
        }
        let mut parts: [&[u8]; 7] = [&[]; 7];
        let mut from = 0;
        for (index, (at, label)) in inserts[..count].iter().enumerate() {
            parts[2 * index] = &self.run[from..*at];
            parts[2 * index + 1] = &scratch.0[label.clone()];
            from = *at;
        }
        parts[2 * count] = &self.run[from..];
        take(&parts[..=2 * count]);
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.run.len()
    }
}

impl Serialize for DerivedLabels {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.run)
    }
}

impl<'de> Deserialize<'de> for DerivedLabels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let run: &[u8] = Deserialize::deserialize(from)?;
        let canonical = LabelRun::checked(run).filter(|run| run.metric_name().is_none());
        let canonical = canonical.ok_or_else(|| serde::de::Error::custom("labels are not canonical"))?;
        Ok(Self::over(canonical.as_bytes().into()))
    }
}

/// Room for the few labels that are spliced in; reused from sample to sample.
#[derive(Default, Debug)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    fn start(&mut self) {
        self.0.clear();
    }

    fn label(&mut self, name: &str, value: &str) -> std::ops::Range<usize> {
        let start = self.0.len();
        push_label(&mut self.0, name.as_bytes(), value.as_bytes());
        start..self.0.len()
    }
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
        let labels = DerivedLabels::new(LabelRun::from_canonical(&source), "m", stat);
        let mut spliced = Vec::new();
        labels.splice(output, &mut Scratch::default(), |parts| spliced = parts.concat());
        assert_eq!(LabelRun::from_canonical(&spliced).to_string(), {
            let expected = run(expected);
            LabelRun::from_canonical(&expected).to_string()
        });
        assert_eq!(*spliced, *run(expected));
    }

    #[test]
    fn only_labels_of_a_derived_series_are_read_back() {
        let check = |bytes: &[u8], fits: bool| {
            let read = postcard::to_allocvec(bytes).and_then(|bytes| {
                let labels: DerivedLabels = postcard::from_bytes(&bytes)?;
                Ok((labels.run().as_bytes().to_vec(), labels.id(), labels.name_at))
            });
            assert_eq!(read.is_ok(), fits, "{bytes:?}");
        };
        let known = run(&[("A", "1"), ("b", "2")]);
        check(&known, true);
        check(&[], true);
        check(&run(&[("__name__", "up")]), false);
        check(&known[..known.len() - 1], false);
        check(&[&known[8..], &known[..8]].concat(), false);
        check(&[&known[..8], &known[..8]].concat(), false);
        check(&run(&[("a", "ü")])[..7], false);
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
