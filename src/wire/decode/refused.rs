//! What was not accepted of a request, by reason.

use super::Limits;

/// Why a series, a sample, a histogram or an exemplar is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Series: no `__name__`, or an empty one, or no labels at all.
    NoMetricName,
    /// Series: a label without a name.
    EmptyLabelName,
    /// Series: two labels of one name.
    DuplicateLabel,
    /// Series: a name or a value that is not UTF-8.
    InvalidUtf8,
    /// Series: more labels than [`Limits::labels_max`].
    TooManyLabels,
    /// Series: a name longer than [`Limits::name_bytes_max`].
    LabelNameTooLong,
    /// Series: a value longer than [`Limits::value_bytes_max`].
    LabelValueTooLong,
    /// Series: a label run longer than [`Limits::label_bytes_max`].
    LabelsTooLong,
    /// Series: an odd number of label references.
    OddLabelRefs,
    /// Series: a label reference beyond the symbols.
    LabelRefOutOfRange,
    /// Series: a help or unit reference beyond the symbols.
    MetadataRefOutOfRange,
    /// Series: neither samples nor histograms.
    NoSamples,
    /// Series: of one more replica than [`Limits::replicas_max`].
    TooManyReplicas,
    /// Sample or histogram: later than the latest timestamp accepted.
    TooFarAhead,
    /// Histogram: a list longer than [`Limits::histogram_buckets_max`].
    TooManyBuckets,
    /// Histogram: spans, buckets, bounds, schema and count that contradict each other.
    HistogramInvalid,
    /// Exemplar: label references that are odd in number or beyond the symbols.
    BadExemplar,
}

/// How much was refused for one reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Whole series. 0 for reasons that concern samples, histograms or exemplars one by one.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// Tally by reason, and words for the first.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Refused {
    tallies: [Tally; Refusal::ALL.len()],
    message: Option<String>,
}

impl Refusal {
    /// All reasons, in order.
    pub const ALL: [Self; 17] = [
        Self::NoMetricName,
        Self::EmptyLabelName,
        Self::DuplicateLabel,
        Self::InvalidUtf8,
        Self::TooManyLabels,
        Self::LabelNameTooLong,
        Self::LabelValueTooLong,
        Self::LabelsTooLong,
        Self::OddLabelRefs,
        Self::LabelRefOutOfRange,
        Self::MetadataRefOutOfRange,
        Self::NoSamples,
        Self::TooManyReplicas,
        Self::TooFarAhead,
        Self::TooManyBuckets,
        Self::HistogramInvalid,
        Self::BadExemplar,
    ];

    /// The name in metrics, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoMetricName => "no_metric_name",
            Self::EmptyLabelName => "empty_label_name",
            Self::DuplicateLabel => "duplicate_label",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooManyLabels => "too_many_labels",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::LabelsTooLong => "labels_too_long",
            Self::OddLabelRefs => "odd_label_refs",
            Self::LabelRefOutOfRange => "label_ref_out_of_range",
            Self::MetadataRefOutOfRange => "metadata_ref_out_of_range",
            Self::NoSamples => "no_samples",
            Self::TooManyReplicas => "too_many_replicas",
            Self::TooFarAhead => "too_far_ahead",
            Self::TooManyBuckets => "too_many_buckets",
            Self::HistogramInvalid => "histogram_invalid",
            Self::BadExemplar => "bad_exemplar",
        }
    }

    /// The reason in words, with the limit that was broken.
    fn explain(self, limits: &Limits, latest: i64) -> String {
        match self {
            Self::NoMetricName => "no label `__name__`".to_owned(),
            Self::EmptyLabelName => "a label without a name".to_owned(),
            Self::DuplicateLabel => "two labels of one name".to_owned(),
            Self::InvalidUtf8 => "a label that is not UTF-8".to_owned(),
            Self::TooManyLabels => format!("more labels than `labels_max` of {}", limits.labels_max),
            Self::LabelNameTooLong => {
                format!("a label name over `name_bytes_max` of {} bytes", limits.name_bytes_max)
            }
            Self::LabelValueTooLong => {
                format!("a label value over `value_bytes_max` of {} bytes", limits.value_bytes_max)
            }
            Self::LabelsTooLong => {
                format!("labels over `label_bytes_max` of {} bytes", limits.label_bytes_max)
            }
            Self::OddLabelRefs => "an odd number of label references".to_owned(),
            Self::LabelRefOutOfRange => "a label reference beyond the symbols".to_owned(),
            Self::MetadataRefOutOfRange => "a metadata reference beyond the symbols".to_owned(),
            Self::NoSamples => "neither samples nor histograms".to_owned(),
            Self::TooManyReplicas => {
                format!("a replica beyond `replicas_max` of {} in one request", limits.replicas_max)
            }
            Self::TooFarAhead => format!("a timestamp later than {latest} ms, which is too far ahead"),
            Self::TooManyBuckets => {
                format!(
                    "a histogram with more than `histogram_buckets_max` of {}",
                    limits.histogram_buckets_max
                )
            }
            Self::HistogramInvalid => {
                "a histogram whose spans, buckets, bounds, schema and count do not agree".to_owned()
            }
            Self::BadExemplar => "an exemplar with label references odd or beyond the symbols".to_owned(),
        }
    }
}

impl Refused {
    /// Whether all was accepted.
    pub fn is_empty(&self) -> bool {
        self.message.is_none()
    }

    /// Name of each reason that occurred and how many samples it cost, floats and histograms together. 0
    /// where only a series without samples or an exemplar was refused.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.tallies().map(|(refusal, tally)| (refusal.name(), tally.samples + tally.histograms))
    }

    /// Each reason that occurred, in order, with all that it cost.
    pub fn tallies(&self) -> impl Iterator<Item = (Refusal, Tally)> {
        let all = Refusal::ALL.into_iter().zip(self.tallies);
        all.filter(|(_, tally)| *tally != Tally::default())
    }

    /// The first refusal in words, with series and limit; `None` where all was accepted. At most a few
    /// hundred bytes, whatever was sent.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Counts `tally` under `refusal`. `series` describes the series and is called for the first only.
    pub(super) fn add(
        &mut self,
        refusal: Refusal,
        tally: Tally,
        limits: (&Limits, i64),
        series: impl FnOnce() -> String,
    ) {
        let sum = &mut self.tallies[refusal as usize];
        sum.series += tally.series;
        sum.samples += tally.samples;
        sum.histograms += tally.histograms;
        sum.exemplars += tally.exemplars;
        if self.message.is_none() {
            self.message = Some(format!("{} has {}", series(), refusal.explain(limits.0, limits.1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_name_and_place() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            assert_eq!(Refusal::ALL.iter().filter(|other| other.name() == refusal.name()).count(), 1);
        }
    }
}
