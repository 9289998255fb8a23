//! The answer to a query of raw samples: Prometheus's JSON into labels and samples.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/api/#range-vectors>.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::engine::derive::PREFIX;
use crate::series::{METRIC_NAME, Sample, push_label};
use crate::wire::decode::Limits;

/// A series with what was fetched of it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Series {
    /// A canonical run.
    pub(super) labels: Vec<u8>,
    /// Ascending in time, one at an instant, at least one.
    pub(super) samples: Vec<Sample>,
}

/// What an answer brought.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) series: Vec<Series>,
    /// Whether the other side knows that something is missing.
    pub(super) partial: bool,
}

/// Reads `json` and keeps the samples within `part`. A series gets those of `labels` that it lacks. Leaves out derived series, and series with more labels or longer
/// ones than a receiver takes; one with absurdly many would spoil the request that it stands in.
pub(super) fn read(
    json: &[u8],
    part: &Range<i64>,
    labels: &BTreeMap<String, String>,
) -> Result<Matrix, String> {
    let answer: Answer = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if answer.data.result_type != "matrix" {
        return Err(format!("expected a matrix, not {:?}", answer.data.result_type));
    }
    let series = answer.data.result.into_iter().filter_map(|entry| series(entry, part, labels));
    Ok(Matrix { series: series.collect(), partial: answer.is_partial || !answer.warnings.is_empty() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    data: Data,
    /// VictoriaMetrics: some of its storage did not answer.
    #[serde(default)]
    is_partial: bool,
    #[serde(default)]
    warnings: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    metric: BTreeMap<String, String>,
    /// Absent where a series has native histograms only.
    #[serde(default)]
    values: Vec<Point>,
}

struct Point(Sample);

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (seconds, text) = <(f64, &str)>::deserialize(deserializer)?;
        let value = text.parse().map_err(|_| D::Error::custom("a value is no number"))?;
        // A float holds milliseconds exactly far beyond any date that is meant; others end at the ends.
        Ok(Self(Sample { timestamp: (seconds * 1000.0).round() as i64, value }))
    }
}

fn series(entry: Entry, part: &Range<i64>, lacking: &BTreeMap<String, String>) -> Option<Series> {
    let limits = Limits::default();
    let mut metric = entry.metric;
    if metric.get(METRIC_NAME).is_some_and(|name| name.starts_with(PREFIX)) {
        return None;
    }
    metric.retain(|_, value| !value.is_empty());
    for (name, value) in lacking {
        metric.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let mut labels = Vec::new();
    for (name, value) in &metric {
        push_label(&mut labels, name.as_bytes(), value.as_bytes());
    }
    if metric.len() > limits.labels_max || labels.len() > limits.label_bytes_max {
        return None;
    }
    let samples = entry.values.into_iter().map(|Point(sample)| sample);
    let mut samples: Vec<_> = samples.filter(|sample| part.contains(&sample.timestamp)).collect();
    samples.sort_by_key(|sample| sample.timestamp);
    samples.dedup_by_key(|sample| sample.timestamp);
    (!samples.is_empty()).then_some(Series { labels, samples })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::LabelRun;

    fn answer(result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#)
    }

    #[track_caller]
    fn check(result: &str, expected: &[&str]) {
        check_with(&[], result, expected);
    }

    #[track_caller]
    fn check_with(labels: &[(&str, &str)], result: &str, expected: &[&str]) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let matrix = read(answer(result).as_bytes(), &(0..2000), &labels).expect(result);
        let show = |series: &Series| {
            let samples: Vec<_> =
                series.samples.iter().map(|it| format!("{}@{}", it.value, it.timestamp)).collect();
            format!("{} {}", LabelRun::from_canonical(&series.labels), samples.join(" "))
        };
        assert_eq!(matrix.series.iter().map(show).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn labels_and_samples_are_read() {
        check("", &[]);
        check(
            r#"{"metric":{"job":"a","__name__":"up","empty":""},"values":[[0.001,"1"],[1.999,"-1.5e3"]]}"#,
            &[r#"up{job="a"} 1@1 -1500@1999"#],
        );
        check(
            r#"{"metric":{"__name__":"x"},"values":[[0,"+Inf"],[1,"-Inf"],[1.5,"NaN"]]}"#,
            &["x inf@0 -inf@1000 NaN@1500"],
        );
    }

    #[test]
    fn samples_ascend_stand_once_and_lie_in_the_part() {
        check(
            r#"{"metric":{"__name__":"x"},"values":[[1,"1"],[0.5,"2"],[1,"3"],[2,"4"],[-0.001,"5"],[1e300,"6"]]}"#,
            &["x 2@500 1@1000"],
        );
    }

    #[test]
    fn a_series_gets_the_labels_that_it_lacks_and_keeps_its_own() {
        let labels = [("cluster", "eu"), ("zone", "a")];
        let point = r#""values":[[1,"1"]]"#;
        check_with(
            &labels,
            &format!(r#"{{"metric":{{"__name__":"up","job":"a"}},{point}}}"#),
            &[r#"up{cluster="eu", job="a", zone="a"} 1@1000"#],
        );
        check_with(
            &labels,
            &format!(r#"{{"metric":{{"__name__":"up","cluster":"us","zone":""}},{point}}}"#),
            &[r#"up{cluster="us", zone="a"} 1@1000"#],
        );
        check_with(&labels, &format!(r#"{{"metric":{{"__name__":"ml_anomaly_score"}},{point}}}"#), &[]);
    }

    #[test]
    fn what_is_not_to_be_judged_is_left_out() {
        check(r#"{"metric":{"__name__":"ml_anomaly_score"},"values":[[1,"1"]]}"#, &[]);
        check(r#"{"metric":{"__name__":"h"},"histograms":[[1,{"count":"1"}]]}"#, &[]);
        let labels: Vec<_> = (0..41).map(|number| format!(r#""l{number}":"x""#)).collect();
        check(&format!(r#"{{"metric":{{{}}},"values":[[1,"1"]]}}"#, labels.join(",")), &[]);
        check(&format!(r#"{{"metric":{{"l":"{}"}},"values":[[1,"1"]]}}"#, "x".repeat(20_000)), &[]);
    }

    #[test]
    fn a_partial_answer_is_known() {
        let check = |text: &str, expected: bool| {
            let matrix = read(text.as_bytes(), &(0..1), &BTreeMap::new()).expect(text);
            assert_eq!(matrix.partial, expected);
        };
        check(&answer(""), false);
        check(&answer("").replace("{\"status\"", "{\"isPartial\":true,\"status\""), true);
        check(&answer("").replace("{\"status\"", "{\"warnings\":[\"slow\"],\"status\""), true);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let check = |text: &str, expected: &str| {
            let problem = read(text.as_bytes(), &(0..1), &BTreeMap::new()).expect_err(text);
            assert!(problem.starts_with(expected), "{text}: {problem}");
        };
        check("", "EOF");
        check("<html>", "expected value");
        check(r#"{"status":"success"}"#, "missing field `data`");
        check(
            r#"{"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#,
            "expected a matrix, not \"vector\"",
        );
        check(&answer(r#"{"metric":{},"values":[[1,"one"]]}"#), "a value is no number");
        check(&answer(r#"{"metric":{},"values":[["1","1"]]}"#), "invalid type");
    }
}
