//! Native histograms: walked, bounded and checked, not yet built.
//!
//! The checks are those of Prometheus (`model/histogram`, `Validate`), made while the wire is walked, so that a
//! histogram of any size costs a few hundred bytes. Fields may stand in any order, which is why lists are
//! summed up before it is known whether they are the ones that count.

use super::{Limits, Protocol};
use crate::wire::fields::{Fields, Span, SyntaxError};

/// Schema whose bounds are spelled out in the histogram.
const CUSTOM_BUCKETS: i32 = -53;

/// Coarsest schema of exponential buckets, and the finest one: what exceeds 8 is brought down to 8 by who
/// reads it.
const EXPONENTIAL: std::ops::RangeInclusive<i32> = -4..=52;

/// What is known of a histogram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Histogram {
    /// Milliseconds since the epoch.
    pub(super) timestamp: i64,
    schema: i32,
    sum: f64,
    zero_threshold: f64,
    /// Decides whether the histogram is one of integers or one of floats.
    count: Number,
    zero_count: Number,
    positive: Side,
    negative: Side,
    bounds: Bounds,
}

/// A count, by the field that brought it.
#[derive(Clone, Copy, Debug)]
enum Number {
    Integer(u64),
    Float(f64),
}

/// Buckets on one side of zero, of both kinds: which one counts is known at the end.
#[derive(Clone, Copy, Default, Debug)]
struct Side {
    spans: Spans,
    integers: Deltas,
    floats: Buckets,
}

/// Where buckets are.
#[derive(Clone, Copy, Default, Debug)]
struct Spans {
    number: usize,
    /// Sum of lengths.
    buckets: i64,
    /// Sum of lengths and offsets: one past the last bucket.
    reach: i64,
    starts_below_zero: bool,
    steps_back: bool,
}

/// Buckets of a histogram of integers, each but the first relative to the one before.
#[derive(Clone, Copy, Default, Debug)]
struct Deltas {
    buckets: Buckets,
    last: i64,
    /// Sum of the buckets. Cannot overflow: a request has fewer than 2³² of them.
    sum: u128,
}

/// What there is to know of buckets beside their sum.
#[derive(Clone, Copy, Default, Debug)]
struct Buckets {
    number: usize,
    has_negative: bool,
}

/// Bounds of custom buckets.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    number: usize,
    last: f64,
    is_disordered: bool,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            timestamp: 0,
            schema: 0,
            sum: 0.0,
            zero_threshold: 0.0,
            count: Number::Integer(0),
            zero_count: Number::Integer(0),
            positive: Side::default(),
            negative: Side::default(),
            bounds: Bounds { number: 0, last: f64::NEG_INFINITY, is_disordered: false },
        }
    }
}

impl Histogram {
    /// Reads the histogram at `span`.
    pub(super) fn read(request: &[u8], span: Span, protocol: Protocol) -> Result<Self, SyntaxError> {
        let mut found = Self::default();
        let mut fields = Fields::within(request, span);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => found.count = Number::Integer(field.varint()?),
                2 => found.count = Number::Float(field.double()?),
                3 => found.sum = field.double()?,
                4 => found.schema = signed_32(field.varint()?),
                5 => found.zero_threshold = field.double()?,
                6 => found.zero_count = Number::Integer(field.varint()?),
                7 => found.zero_count = Number::Float(field.double()?),
                8 => found.negative.spans.read(request, field.bytes()?)?,
                9 => field.varints(request, |delta| found.negative.integers.add(signed_64(delta)))?,
                10 => field.doubles(request, |count| found.negative.floats.add(count))?,
                11 => found.positive.spans.read(request, field.bytes()?)?,
                12 => field.varints(request, |delta| found.positive.integers.add(signed_64(delta)))?,
                13 => field.doubles(request, |count| found.positive.floats.add(count))?,
                14 => drop(field.varint()?),
                15 => found.timestamp = field.varint()? as i64,
                16 => field.doubles(request, |bound| found.bounds.add(bound))?,
                17 if protocol == Protocol::V2 => drop(field.varint()?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Whether no list is longer than allowed.
    pub(super) fn fits(&self, limits: &Limits) -> bool {
        let Self { positive, negative, bounds, .. } = self;
        let spans = positive.spans.number + negative.spans.number;
        let buckets = positive.buckets_sent() + negative.buckets_sent();
        spans.max(buckets).max(bounds.number) <= limits.histogram_buckets_max
    }

    /// Whether spans, buckets, bounds, schema and count agree with each other.
    pub(super) fn is_valid(&self) -> bool {
        let (positive, negative) = match self.count {
            Number::Integer(_) => (self.positive.integers.buckets, self.negative.integers.buckets),
            Number::Float(_) => (self.positive.floats, self.negative.floats),
        };
        let has_layout = match self.schema {
            CUSTOM_BUCKETS => self.is_custom(positive.number, negative.number),
            schema => EXPONENTIAL.contains(&schema) && self.is_exponential(positive.number, negative.number),
        };
        has_layout && !positive.has_negative && !negative.has_negative && self.adds_up()
    }

    /// Whether zero bucket and buckets are the count, or no more where the sum is not a number: observations
    /// that are not numbers are counted and in no bucket. A stale marker is such a histogram.
    ///
    /// The count of a histogram of floats is not held against its buckets, since rounding parts them.
    fn adds_up(&self) -> bool {
        let Number::Integer(count) = self.count else { return true };
        let zero = match self.zero_count {
            Number::Integer(zero) => u128::from(zero),
            Number::Float(_) => 0,
        };
        let found = self.positive.integers.sum + self.negative.integers.sum + zero;
        let count = u128::from(count);
        if self.sum.is_nan() { found <= count } else { found == count }
    }

    fn is_exponential(&self, positive: usize, negative: usize) -> bool {
        self.bounds.number == 0 && self.positive.spans.hold(positive) && self.negative.spans.hold(negative)
    }

    fn is_custom(&self, positive: usize, negative: usize) -> bool {
        let spans = self.positive.spans;
        // The last bucket reaches from the last bound to infinity.
        let is_bounded = spans.reach <= self.bounds.number as i64 + 1;
        spans.hold(positive)
            && !spans.starts_below_zero
            && is_bounded
            && self.bounds.are_ascending()
            && self.negative.spans.number == 0
            && negative == 0
            && !self.has_zeros()
            && self.zero_threshold == 0.0
    }

    /// Whether the zero bucket holds anything, of the kind that the count says.
    fn has_zeros(&self) -> bool {
        match (self.count, self.zero_count) {
            (Number::Integer(_), Number::Integer(zero)) => zero != 0,
            (Number::Float(_), Number::Float(zero)) => zero != 0.0,
            _ => false,
        }
    }
}

impl Side {
    fn buckets_sent(&self) -> usize {
        self.integers.buckets.number + self.floats.number
    }
}

impl Spans {
    fn read(&mut self, request: &[u8], span: Span) -> Result<(), SyntaxError> {
        let (mut offset, mut length) = (0, 0);
        let mut fields = Fields::within(request, span);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => offset = signed_32(field.varint()?),
                // Protobuf reads what exceeds 32 bits as its low half.
                2 => length = field.varint()? as u32,
                _ => {}
            }
        }
        self.add(offset, length);
        Ok(())
    }

    /// Sums cannot overflow: a request has fewer than 2³¹ spans, and each adds 33 bits at most.
    fn add(&mut self, offset: i32, length: u32) {
        let is_below = offset < 0;
        self.starts_below_zero |= is_below && self.number == 0;
        self.steps_back |= is_below && self.number > 0;
        self.number += 1;
        self.buckets += i64::from(length);
        self.reach += i64::from(length) + i64::from(offset);
    }

    /// Whether these are spans of `buckets` buckets that follow each other.
    fn hold(&self, buckets: usize) -> bool {
        !self.steps_back && self.buckets == buckets as i64
    }
}

impl Deltas {
    fn add(&mut self, delta: i64) {
        self.buckets.number += 1;
        match self.last.checked_add(delta) {
            Some(bucket) if bucket >= 0 => {
                self.last = bucket;
                self.sum += bucket as u128;
            }
            _ => self.buckets.has_negative = true,
        }
    }
}

impl Buckets {
    fn add(&mut self, count: f64) {
        self.number += 1;
        self.has_negative |= count < 0.0;
    }
}

impl Bounds {
    fn add(&mut self, bound: f64) {
        self.is_disordered |= bound.is_nan() || (self.number > 0 && bound <= self.last);
        self.number += 1;
        self.last = bound;
    }

    /// Whether bounds ascend, and leave infinity unsaid.
    fn are_ascending(&self) -> bool {
        !self.is_disordered && self.last < f64::INFINITY
    }
}

/// A `sint32`, of which protobuf reads the low half.
fn signed_32(zigzag: u64) -> i32 {
    let zigzag = zigzag as u32;
    (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)
}

/// A `sint64`.
fn signed_64(zigzag: u64) -> i64 {
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}
