//! Native histograms: walked and bounded, not yet built.

use super::{Limits, Protocol};
use crate::wire::fields::{Fields, Span, SyntaxError};

/// What is known of a histogram.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Histogram {
    /// Milliseconds since the epoch.
    pub(super) timestamp: i64,
    spans: usize,
    buckets: usize,
    bounds: usize,
}

impl Histogram {
    /// Reads the histogram at `span`.
    ///
    /// Spans are not held against buckets: nothing is expanded by them here.
    pub(super) fn read(request: &[u8], span: Span, protocol: Protocol) -> Result<Self, SyntaxError> {
        let mut found = Self::default();
        let mut fields = Fields::within(request, span);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 | 4 | 6 | 14 => drop(field.varint()?),
                2 | 3 | 5 | 7 => drop(field.double()?),
                8 | 11 => {
                    bucket_span(request, field.bytes()?)?;
                    found.spans += 1;
                }
                9 | 12 => field.varints(request, |_| found.buckets += 1)?,
                10 | 13 => found.buckets += field.doubles()?,
                15 => found.timestamp = field.varint()? as i64,
                16 => found.bounds += field.doubles()?,
                17 if protocol == Protocol::V2 => drop(field.varint()?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether no list is longer than allowed.
    pub(super) fn fits(&self, limits: &Limits) -> bool {
        self.spans.max(self.buckets).max(self.bounds) <= limits.histogram_buckets_max
    }
}

fn bucket_span(request: &[u8], span: Span) -> Result<(), SyntaxError> {
    let mut fields = Fields::within(request, span);
    while let Some(field) = fields.next_field()? {
        if matches!(field.number, 1 | 2) {
            field.varint()?;
        }
    }
    Ok(())
}
