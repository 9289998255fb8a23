//! Remote write 2.0: labels are references into a table of symbols.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, 2.0-rc.4. Symbols may follow the
//! series that refer to them, since protobuf leaves the order open. That the first symbol be
//! empty is not insisted on. Field 6 of a series, a created timestamp up to rc.3, is skipped.

use super::intake::Intake;
use super::labels::{LabelText, Origin, Places, arrange, check_lengths, push_run, run_length};
use super::{Decoded, Limits, Malformed, Protocol, Refusal};
use crate::series::{Batch, MetricKind};
use crate::wire::fields::{Field, Fields, Span, SyntaxError};

/// Symbols of the request, where they stand in it.
#[derive(Default)]
struct Symbols {
    texts: Vec<Symbol>,
    /// How many series follow, counted in passing.
    series: usize,
}

#[derive(Clone, Copy)]
struct Symbol {
    span: Span,
    is_utf8: bool,
}

/// What a series says of itself beside what it holds.
#[derive(Clone, Copy, Default)]
struct Metadata {
    kind: u32,
    help: u32,
    unit: u32,
}

/// References of the series at hand.
#[derive(Default)]
struct Refs {
    /// At most two for each label allowed.
    refs: Vec<u32>,
    count: usize,
    /// References to the names of an earlier series, which were in order and had a metric's name among them:
    /// series of one family follow each other, and numbers are compared faster than names.
    names_in_order: Vec<u32>,
    /// Which of those names name a replica.
    places: Option<Places>,
}

/// Labels that stand in the intake, arranged.
struct Labels {
    /// Bytes of their run.
    length: usize,
    origin: Option<Origin>,
}

pub(super) fn decode(mut batch: Batch, limits: &Limits, latest: i64) -> Result<Decoded, Malformed> {
    let raw = std::mem::take(batch.bytes_mut());
    let mut intake = Intake::new(limits, latest, expanded_max(raw.len()));
    let symbols = Symbols::read(&raw, limits)?;
    let mut refs = Refs::default();
    let mut fields = Fields::over(&raw)?;
    while let Some(field) = fields.next_field()? {
        if field.number == 5 {
            intake.begin()?;
            let found = match series(&mut intake, &raw, field.bytes()?, (&symbols, &mut refs))? {
                Ok((labels, kind)) => attribute(&mut intake, &raw, labels)?.map(|length| (length, kind)),
                Err(refusal) => Err(refusal),
            };
            match found {
                Err(refusal) => intake.refuse(refusal, &raw),
                Ok((length, kind)) => {
                    make_room(&mut batch, length, (&raw, &fields), (limits, &symbols))?;
                    let start = batch.bytes().len();
                    push_run(batch.bytes_mut(), &intake.labels, &raw, length);
                    let end = batch.bytes().len();
                    intake.accept(&mut batch, start..end, kind);
                }
            }
        }
    }
    Ok(intake.finish(batch))
}

/// Remembers the replica that `labels` name, and returns the length of the run that is to be built. To look for
/// a replica takes as long as to build its name, so that it counts as if it were.
fn attribute(
    intake: &mut Intake<'_>,
    request: &[u8],
    Labels { length, origin }: Labels,
) -> Result<Result<usize, Refusal>, Malformed> {
    intake.build(length + origin.map_or(0, |origin| origin.replica.len()))?;
    Ok(intake.attribute(origin, request).map(|()| length))
}

/// Bytes of label runs that a request of `size` bytes may refer to: 16 times as many, which is twice what common
/// labels come to, but at least 4 MiB and at most 16 MiB. What refers to more by so little is an attack.
fn expanded_max(size: usize) -> usize {
    size.saturating_mul(16).clamp(4 << 20, 16 << 20)
}

/// How many times their bytes in the request runs are given room for at once; more comes as it is needed.
const ROOM: usize = 4;

/// Makes room for a run of `length` bytes: at first for what all series will need if they are like this one, within
/// limits, since growing step by step would copy, and touch pages, that are then thrown away; later, where that
/// was too little by far, for what those in `rest` do need.
fn make_room(
    batch: &mut Batch,
    length: usize,
    (request, rest): (&[u8], &Fields<'_>),
    (limits, symbols): (&Limits, &Symbols),
) -> Result<(), Malformed> {
    let built = batch.bytes().len();
    if built == 0 {
        batch.reserve(symbols.series);
        let bytes = length.saturating_mul(symbols.series);
        let max = request.len().saturating_mul(ROOM).min(limits.canonical_bytes_max);
        batch.bytes_mut().reserve(bytes.saturating_add(bytes / 8).min(max));
    } else if built >= MEASURED_FROM && batch.bytes_mut().capacity() - built < length {
        let more = measure(request, rest.clone(), (limits, symbols), built + length)?;
        batch.bytes_mut().reserve_exact(length + more);
    }
    Ok(())
}

/// Bytes of label runs from which on they grow no more step by step, but to what all of them will need.
const MEASURED_FROM: usize = 1 << 20;

/// Bytes of the label runs of all series in `rest`, after `built` of those before. Builds none, so that a request
/// that refers to too much is refused before it has cost the memory.
fn measure(
    request: &[u8],
    mut rest: Fields<'_>,
    (limits, symbols): (&Limits, &Symbols),
    built: usize,
) -> Result<usize, Malformed> {
    let mut intake = Intake::new(limits, i64::MAX, expanded_max(request.len()));
    intake.build(built)?;
    let (mut refs, mut bytes) = (Refs::default(), 0);
    while let Some(field) = rest.next_field()? {
        if field.number == 5 {
            intake.begin()?;
            if let Ok((labels, _)) = series(&mut intake, request, field.bytes()?, (symbols, &mut refs))? {
                let replica = labels.origin.map_or(0, |origin| origin.replica.len());
                intake.build(labels.length + replica)?;
                bytes += labels.length;
            }
        }
    }
    Ok(bytes)
}

/// Walks a series: what it holds goes into the intake; its labels and its type come back.
fn series(
    intake: &mut Intake<'_>,
    request: &[u8],
    message: Span,
    (symbols, refs): (&Symbols, &mut Refs),
) -> Result<Result<(Labels, MetricKind), Refusal>, Malformed> {
    let mut metadata = Metadata::default();
    refs.clear();
    let mut fields = Fields::within(request, message);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => refs.read(request, field, intake.limits)?,
            2 => intake.sample(request, field.bytes()?, Protocol::V2)?,
            3 => intake.histogram(request, field.bytes()?, Protocol::V2)?,
            4 => {
                let labels = exemplar(request, field.bytes()?, symbols)?;
                intake.exemplar(labels)?;
            }
            5 => metadata.read(request, field.bytes()?)?,
            _ => {}
        }
    }
    intake.labels_counted(refs.count / 2)?;
    Ok(judge(intake, request, symbols, refs).and_then(|labels| {
        metadata.check(symbols)?;
        if intake.is_empty() {
            return Err(Refusal::NoSamples);
        }
        Ok((labels, MetricKind::from_wire(u64::from(metadata.kind))))
    }))
}

/// Resolves references into the intake's labels, checks and arranges them.
fn judge(
    intake: &mut Intake<'_>,
    request: &[u8],
    symbols: &Symbols,
    refs: &mut Refs,
) -> Result<Labels, Refusal> {
    let limits = intake.limits;
    if refs.count > limits.labels_max.saturating_mul(2) {
        return Err(Refusal::TooManyLabels);
    }
    if !refs.count.is_multiple_of(2) {
        return Err(Refusal::OddLabelRefs);
    }
    let mut has_empty = false;
    for pair in refs.refs.chunks_exact(2) {
        let (name, value) = (symbols.get(pair[0])?, symbols.get(pair[1])?);
        intake.labels.push(LabelText { name: name.span, value: value.span });
        check_lengths(name.span.len(), value.span.len(), limits)?;
        if !(name.is_utf8 && value.is_utf8) {
            return Err(Refusal::InvalidUtf8);
        }
        has_empty |= value.span.len() == 0;
    }
    if !has_empty && refs.are_in_order() {
        let origin = refs.places.map(|places| places.take(&mut intake.labels));
        return Ok(Labels { length: run_length(&intake.labels, limits)?, origin });
    }
    let arranged = arrange(&mut intake.labels, request, limits)?;
    if arranged.is_as_sent {
        refs.remember_order(arranged.places);
    }
    Ok(Labels { length: arranged.length, origin: arranged.origin })
}

fn exemplar(request: &[u8], message: Span, symbols: &Symbols) -> Result<Result<(), Refusal>, SyntaxError> {
    let (mut count, mut in_range) = (0_usize, true);
    let mut fields = Fields::within(request, message);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => field.varints(request, |number| {
                count += 1;
                in_range &= symbols.get(number as u32).is_ok();
            })?,
            2 => drop(field.double()?),
            3 => drop(field.varint()?),
            _ => {}
        }
    }
    Ok(if in_range && count.is_multiple_of(2) { Ok(()) } else { Err(Refusal::BadExemplar) })
}

impl Symbols {
    /// Hops through the request once, for the symbols alone.
    fn read(request: &[u8], limits: &Limits) -> Result<Self, Malformed> {
        let (mut texts, mut series) = (Vec::new(), 0_usize);
        let mut fields = Fields::over(request)?;
        while let Some(field) = fields.next_field()? {
            series += usize::from(field.number == 5);
            if series > limits.series_max {
                return Err(Malformed::TooMany { what: "series", max: limits.series_max });
            }
            if field.number == 4 {
                if texts.len() == limits.symbols_max {
                    return Err(Malformed::TooMany { what: "symbols", max: limits.symbols_max });
                }
                let span = field.bytes()?;
                texts.push(Symbol { span, is_utf8: std::str::from_utf8(span.of(request)).is_ok() });
            }
        }
        Ok(Self { texts, series })
    }

    fn get(&self, index: u32) -> Result<Symbol, Refusal> {
        self.texts.get(index as usize).copied().ok_or(Refusal::LabelRefOutOfRange)
    }
}

impl Metadata {
    /// Reads metadata; a second one of a series overrides the first, field by field.
    fn read(&mut self, request: &[u8], message: Span) -> Result<(), SyntaxError> {
        let mut fields = Fields::within(request, message);
        while let Some(field) = fields.next_field()? {
            match field.number {
                1 => self.kind = field.varint()? as u32,
                3 => self.help = field.varint()? as u32,
                4 => self.unit = field.varint()? as u32,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(self, symbols: &Symbols) -> Result<(), Refusal> {
        let known = |index| symbols.get(index).is_ok();
        if known(self.help) && known(self.unit) { Ok(()) } else { Err(Refusal::MetadataRefOutOfRange) }
    }
}

impl Refs {
    fn clear(&mut self) {
        self.refs.clear();
        self.count = 0;
    }

    fn names(&self) -> impl Iterator<Item = &u32> {
        self.refs.iter().step_by(2)
    }

    /// Whether the names are those of an earlier series that was in order.
    fn are_in_order(&self) -> bool {
        !self.refs.is_empty() && self.names().eq(&self.names_in_order)
    }

    fn remember_order(&mut self, places: Option<Places>) {
        self.places = places;
        self.names_in_order.clear();
        self.names_in_order.extend(self.refs.iter().step_by(2));
    }

    fn read(&mut self, request: &[u8], field: Field, limits: &Limits) -> Result<(), SyntaxError> {
        let room = limits.labels_max.saturating_mul(2);
        field.varints(request, |number| {
            self.count += 1;
            if self.count <= room {
                // Protobuf reads what exceeds 32 bits as its low half.
                self.refs.push(number as u32);
            }
        })
    }
}
