//! Detectors, baseline and forecast against numpy, row by row.
//!
//! The tables and the script that makes them stand in `tests/reference`. Every cell must agree to 1e-9 of
//! its size: sums are taken in another order than numpy's, which moves the last digits. Where numpy has
//! exactly zero, up to 1e-9 is taken for it. An empty cell is "not known" and must be so here, too.

use promantis::engine::baseline::HourOfWeek;
use promantis::engine::detect::window::Window;
use promantis::engine::detect::zscore::ZScore;
use promantis::engine::detect::{Band, Detector, Verdict, iqr, mad, rolling_zscore};
use promantis::engine::forecast::Limit;
use promantis::engine::forecast::linear::LinearTrend;
use promantis::series::Sample;

const TOLERANCE: f64 = 1e-9;
const SIGNAL: &str = include_str!("../reference/signal.csv");
const HOURS: &str = include_str!("../reference/hours.csv");
const DISK: &str = include_str!("../reference/disk.csv");

/// Reads a table, feeds `row` with every sample and all cells of its row, and wants back as many cells,
/// empty where unknown.
fn check(table: &str, mut row: impl FnMut(Sample) -> Vec<String>) {
    let mut lines = table.lines();
    let columns: Vec<_> = lines.next().expect("a head").split(',').skip(2).collect();
    let mut rows = 0;
    for line in lines {
        let cells: Vec<_> = line.split(',').collect();
        let sample = Sample {
            timestamp: cells[0].parse().expect("milliseconds"),
            value: cells[1].parse().expect("a float"),
        };
        let found = row(sample);
        assert_eq!(found.len(), columns.len(), "one cell for each column");
        for ((column, expected), found) in columns.iter().zip(&cells[2..]).zip(&found) {
            assert!(same(expected, found), "at {sample:?}: {column} is {found:?}, numpy says {expected:?}");
        }
        rows += 1;
    }
    assert!(rows >= 300, "the table has only {rows} rows");
}

fn same(expected: &str, found: &str) -> bool {
    let (Ok(expected), Ok(found)) = (expected.parse::<f64>(), found.parse::<f64>()) else {
        return expected == found;
    };
    let scale = if expected == 0.0 { 1.0 } else { expected.abs() };
    expected == found || (found - expected).abs() <= TOLERANCE * scale
}

fn band_cells(band: Option<Band>) -> Vec<String> {
    band.map_or(vec![String::new(); 3], |band| {
        [band.expected, band.lower, band.upper].map(|edge| edge.to_string()).to_vec()
    })
}

fn verdict_cells(verdict: Option<Verdict>) -> Vec<String> {
    let mut cells = band_cells(verdict.map(|verdict| verdict.band));
    cells.push(verdict.map_or(String::new(), |verdict| verdict.score.to_string()));
    cells
}

#[test]
fn streaming_detectors_agree_with_numpy_over_slices() {
    let (mut zscore, mut window) = (ZScore::default(), Window::default());
    check(SIGNAL, |sample| {
        let verdicts = [
            zscore.score(sample),
            rolling_zscore::score(&window, sample.value),
            mad::score(&window, sample.value),
            iqr::score(&window, sample.value),
        ];
        zscore.learn(sample);
        window.learn(sample.value);
        verdicts.map(verdict_cells).concat()
    });
}

#[test]
fn hours_of_the_week_agree_with_numpy_over_the_values_of_that_hour() {
    let mut baseline = HourOfWeek::default();
    check(HOURS, |sample| {
        let verdict = baseline.score(sample);
        baseline.learn(sample);
        verdict_cells(verdict)
    });
}

#[test]
fn linear_forecast_agrees_with_polyfit_over_the_last_hundred_points() {
    const HOUR: i64 = 3_600_000;
    let mut trend = LinearTrend::default();
    check(DISK, |sample| {
        trend.learn(sample);
        let now = sample.timestamp;
        let line = trend.fit();
        let breach = line.map(|line| line.breach(Limit::Lower(5.0), now, 24 * HOUR));
        let mut cells = vec![line.map_or(String::new(), |line| line.slope().to_string())];
        cells.extend(band_cells(trend.forecast(now, HOUR)));
        cells.extend(band_cells(trend.forecast(now, 24 * HOUR)));
        cells.push(breach.map_or(String::new(), |breach| breach.seconds.to_string()));
        let confidence = breach.and_then(|breach| breach.confidence);
        cells.push(confidence.map_or(String::new(), |confidence| confidence.name().to_owned()));
        cells
    });
}
