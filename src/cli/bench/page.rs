//! What a server tells of itself on `/metrics`: values, and quantiles of histograms.

/// A page as it was read once.
#[derive(Default, Debug)]
pub(super) struct Page(pub(super) String);

impl Page {
    /// The sum of a metric over all its labels; 0 where the page does not have it.
    pub(super) fn value(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(name));
        let samples = lines.filter(|rest| rest.starts_with(['{', ' ']));
        samples.filter_map(number).sum()
    }

    pub(super) fn histogram(&self, name: &str) -> Histogram {
        let start = format!("{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let rest = line.strip_prefix(&start)?;
            let (edge, _) = rest.split_once('"')?;
            Some((edge.replace("+Inf", "inf").parse().ok()?, number(rest)?))
        };
        Histogram(self.0.lines().filter_map(bucket).collect())
    }
}

/// The value at the end of a line.
fn number(line: &str) -> Option<f64> {
    line.rsplit(' ').next()?.parse().ok()
}

/// Upper edges, and how many observations are not above each.
#[derive(Clone, Default, Debug)]
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// What came since `before`, of the same metric of the same process.
    pub(super) fn since(&self, before: &Self) -> Self {
        let old =
            |edge: f64| before.0.iter().find(|(other, _)| *other == edge).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|&(edge, count)| (edge, count - old(edge))).collect())
    }

    /// Below which value the `share` of all observations is, as if they were spread evenly in each bucket; the largest
    /// edge for what is above all of them. `None` where there is none.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.0.last().filter(|(_, count)| *count > 0.0)?.1;
        let rank = all * share;
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (below, under) = at.checked_sub(1).map_or((0.0, 0.0), |at| self.0[at]);
        let (edge, count) = self.0[at];
        if edge.is_infinite() || count <= under {
            return Some(if edge.is_infinite() { below } else { edge });
        }
        Some(below + (edge - below) * (rank - under) / (count - under))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3.5\na_total_more 7\n\
        h_bucket{le=\"0.001\"} 0\nh_bucket{le=\"0.002\"} 50\nh_bucket{le=\"0.01\"} 90\nh_bucket{le=\"+Inf\"} 100\n";

    #[test]
    fn a_value_is_the_sum_over_all_labels_of_exactly_that_metric() {
        let page = Page(PAGE.to_owned());
        assert_eq!(page.value("a_total"), 5.5);
        assert_eq!(page.value("b_total"), 0.0);
    }

    #[test]
    fn a_quantile_lies_in_its_bucket_where_an_even_spread_has_it() {
        let histogram = Page(PAGE.to_owned()).histogram("h");
        for (share, expected) in [(0.25, 0.0015), (0.5, 0.002), (0.7, 0.006), (0.99, 0.01)] {
            let quantile = histogram.quantile(share).unwrap();
            assert!((quantile - expected).abs() < 1e-12, "{share}: {quantile}");
        }
        assert_eq!(histogram.since(&histogram).quantile(0.5), None);
        assert_eq!(histogram.since(&Histogram::default()).quantile(0.5), Some(0.002));
    }
}
