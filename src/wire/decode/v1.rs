//! Remote write 1.0: labels in the series, metadata apart.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

use std::ops::Range;

use super::form::Form;
use super::intake::{Intake, Moment, plain_tail};
use super::labels::{Arranged, LabelText, Origin, arrange, check_lengths, push_run};
use super::run::{Prefix, canonical_prefix, is_plain_run};
use super::{Decoded, Limits, Malformed, Protocol, Refusal};
use crate::series::{Batch, FamilyMetadata, LabelRun, MetricKind, Sample, SeriesHash};
use crate::wire::fields::{Fields, Span, SyntaxError};

/// Bytes of a family's name at most.
const FAMILY_BYTES_MAX: usize = 4096;

/// Where the labels of a series are.
enum Labels {
    /// Canonical, in the request.
    InPlace(Prefix),
    /// In the intake, arranged.
    Arranged(Arranged),
}

impl Labels {
    fn origin(&self) -> Option<Origin> {
        match self {
            Self::InPlace(prefix) => prefix.replica.map(|(_, origin)| origin),
            Self::Arranged(arranged) => arranged.origin,
        }
    }
}

pub(super) fn decode(mut batch: Batch, limits: &Limits, latest: i64) -> Result<Decoded, Malformed> {
    let size = batch.bytes().len();
    // Built runs stand behind the request, and offsets have 32 bits.
    let room = (u32::MAX as usize).checked_sub(size).ok_or(SyntaxError::TooLong { size })?;
    let request = Span { start: 0, end: size as u32 };
    let mut intake = Intake::new(limits, latest, room);
    let mut at = request;
    let mut before = Before::default();
    let mut built = Vec::new();
    loop {
        take_plain(&mut intake, &mut batch, &mut before, &mut at);
        let Some((number, message)) = next_message(batch.bytes(), &mut at)? else { break };
        match number {
            1 => series(&mut intake, &mut batch, message, &mut built)?,
            3 => {
                intake.metadata()?;
                if let Some(metadata) = metadata(batch.bytes(), message)? {
                    batch.push_metadata(metadata);
                }
            }
            _ => {}
        }
    }
    Ok(intake.finish(batch))
}

/// What series have in common with those before them.
#[derive(Default)]
struct Before {
    form: Form,
    moment: Moment,
}

/// A series that a request begins with, where it is a plain one.
struct Plain {
    labels: Range<usize>,
    hash: SeriesHash,
    end: usize,
    sample: Sample,
}

/// Takes the series ahead as long as each is in time and is, as nearly every sender writes it, short canonical labels
/// and one sample.
#[inline(never)]
fn take_plain(intake: &mut Intake<'_>, batch: &mut Batch, before: &mut Before, rest: &mut Span) {
    let mut taken = 0;
    let room = intake.plain_room();
    while taken < room
        && let Some(plain) = plain_series(rest.of(batch.bytes()), before, intake.limits)
        && intake.is_in_time(plain.sample)
    {
        let Plain { labels, hash, end, sample } = plain;
        if batch.series_count() == 0 {
            // Others will be like this one; where they are shorter, there is room for some at first.
            batch.reserve(1 + rest.len() / end.max(64));
        }
        let start = rest.start as usize;
        rest.start += end as u32;
        batch.push_hashed(start + labels.start..start + labels.end, hash, sample);
        taken += 1;
    }
    intake.plain_taken(taken);
}

/// The series that `ahead` begins with, where it is a plain one.
#[inline(always)]
fn plain_series(ahead: &[u8], Before { form, moment }: &mut Before, limits: &Limits) -> Option<Plain> {
    let (start, length) = match *ahead {
        [0x0a, low @ 0x80..=0xff, high @ 0..=0x7f, ..] => {
            (3, usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        [0x0a, length @ 0..=0x7f, ..] => (2, usize::from(length)),
        _ => return None,
    };
    let ahead = &ahead[start..];
    let (labels, sample) = plain_tail(ahead.get(..length)?, moment)?;
    let run = LabelRun::from_canonical(&ahead[..labels]);
    let hash = if form.fits(ahead, labels) {
        form.hash(run)
    } else {
        if !is_plain_run(ahead, labels, limits) {
            return None;
        }
        form.see(run.as_bytes());
        SeriesHash::of(run)
    };
    Some(Plain { labels: start..start + labels, hash, end: start + length, sample })
}

/// Cuts the next field off `rest` of the request: its number and, where known, its message.
#[inline]
fn next_message(request: &[u8], rest: &mut Span) -> Result<Option<(u32, Span)>, SyntaxError> {
    let mut fields = Fields::within(request, *rest);
    let Some(field) = fields.next_field()? else { return Ok(None) };
    rest.start = fields.at() as u32;
    let message = if matches!(field.number, 1 | 3) { field.bytes()? } else { Span::default() };
    Ok(Some((field.number, message)))
}

fn series(
    intake: &mut Intake<'_>,
    batch: &mut Batch,
    message: Span,
    built: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let prefix = canonical_prefix(batch.bytes(), message, intake.limits);
    if let Some(Prefix { run, replica: None }) = prefix
        && let Some((labels_end, sample)) = plain_tail(message.of(batch.bytes()), &mut Moment::default())
        && labels_end == run.len()
        && intake.is_in_time(sample)
        && intake.plain_room() > 0
    {
        let hash = SeriesHash::of(LabelRun::from_canonical(run.of(batch.bytes())));
        batch.push_hashed(run.start as usize..run.end as usize, hash, sample);
        intake.plain_taken(1);
        return Ok(());
    }
    intake.begin()?;
    let labels = read(intake, batch.bytes(), message, prefix)?;
    if intake.is_empty() {
        return Ok(());
    }
    let labels = match labels {
        Ok(labels) => attribute(intake, batch.bytes(), labels)?,
        Err(refusal) => Err(refusal),
    };
    let run = match labels {
        Err(refusal) => {
            intake.refuse(refusal, batch.bytes());
            return Ok(());
        }
        Ok(Labels::InPlace(prefix)) => prefix.without_replica(batch.bytes_mut()),
        Ok(Labels::Arranged(Arranged { length, .. })) => {
            intake.build(length)?;
            built.clear();
            push_run(built, &intake.labels, batch.bytes(), length);
            let start = batch.bytes().len();
            batch.bytes_mut().extend_from_slice(built);
            start..batch.bytes().len()
        }
    };
    intake.accept(batch, run, MetricKind::Unknown);
    Ok(())
}

/// Remembers the replica that `labels` name. Where that refuses the series, its labels are gathered for the
/// words that say so.
fn attribute(
    intake: &mut Intake<'_>,
    request: &[u8],
    labels: Labels,
) -> Result<Result<Labels, Refusal>, SyntaxError> {
    let attributed = intake.attribute(labels.origin(), request);
    if let (Err(_), Labels::InPlace(prefix)) = (&attributed, &labels) {
        gather(intake, request, prefix.run)?;
    }
    Ok(attributed.map(|()| labels))
}

/// Walks a series behind its canonical prefix, if it has one: what it holds goes into the intake, what its labels are
/// comes back.
fn read(
    intake: &mut Intake<'_>,
    request: &[u8],
    message: Span,
    prefix: Option<Prefix>,
) -> Result<Result<Labels, Refusal>, Malformed> {
    let run = prefix.map_or(Span { end: message.start, ..message }, |prefix| prefix.run);
    let mut count = 0_usize;
    let mut fields = Fields::within(request, Span { start: run.end, ..message });
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => {
                if count == 0 {
                    count += gather(intake, request, run)?;
                }
                count += 1;
                intake.labels_counted(count)?;
                gather_one(intake, request, field.bytes()?)?;
            }
            2 => intake.sample(request, field.bytes()?, Protocol::V1)?,
            3 => {
                exemplar(request, field.bytes()?)?;
                intake.exemplar(Ok(()))?;
            }
            4 => intake.histogram(request, field.bytes()?, Protocol::V1)?,
            _ => {}
        }
    }
    Ok(match (prefix, count) {
        (Some(prefix), 0) => Ok(Labels::InPlace(prefix)),
        _ => judge(intake, request, count).map(Labels::Arranged),
    })
}

/// Gathers the labels of a canonical prefix that turned out not to be all, and counts them.
fn gather(intake: &mut Intake<'_>, request: &[u8], prefix: Span) -> Result<usize, SyntaxError> {
    let mut count = 0;
    let mut fields = Fields::within(request, prefix);
    while let Some(field) = fields.next_field()? {
        gather_one(intake, request, field.bytes()?)?;
        count += 1;
    }
    Ok(count)
}

/// Reads a label, and keeps it unless there are too many already.
fn gather_one(intake: &mut Intake<'_>, request: &[u8], message: Span) -> Result<(), SyntaxError> {
    let text = label(request, message)?;
    if intake.labels.len() < intake.limits.labels_max {
        intake.labels.push(text);
    }
    Ok(())
}

/// Checks and arranges the labels that were gathered of `count`.
fn judge(intake: &mut Intake<'_>, request: &[u8], count: usize) -> Result<Arranged, Refusal> {
    if count > intake.limits.labels_max {
        return Err(Refusal::TooManyLabels);
    }
    for label in &intake.labels {
        check(*label, request, intake.limits)?;
    }
    arrange(&mut intake.labels, request, intake.limits)
}

#[inline]
fn label(request: &[u8], message: Span) -> Result<LabelText, SyntaxError> {
    let mut text = LabelText::default();
    let mut fields = Fields::within(request, message);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => text.name = field.bytes()?,
            2 => text.value = field.bytes()?,
            _ => {}
        }
    }
    Ok(text)
}

fn check(label: LabelText, request: &[u8], limits: &Limits) -> Result<(), Refusal> {
    check_lengths(label.name.len(), label.value.len(), limits)?;
    let is_text = |span: Span| std::str::from_utf8(span.of(request)).is_ok();
    if is_text(label.name) && is_text(label.value) { Ok(()) } else { Err(Refusal::InvalidUtf8) }
}

fn exemplar(request: &[u8], message: Span) -> Result<(), SyntaxError> {
    let mut fields = Fields::within(request, message);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => drop(label(request, field.bytes()?)?),
            2 => drop(field.double()?),
            3 => drop(field.varint()?),
            _ => {}
        }
    }
    Ok(())
}

fn metadata(request: &[u8], message: Span) -> Result<Option<FamilyMetadata>, SyntaxError> {
    let (mut kind, mut family) = (0, Span::default());
    let mut fields = Fields::within(request, message);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => kind = field.varint()? as u32,
            2 => family = field.bytes()?,
            4 | 5 => drop(field.bytes()?),
            _ => {}
        }
    }
    // A longer name is no series', so that nothing would ever ask for it.
    let fits = |family: &&str| (1..=FAMILY_BYTES_MAX).contains(&family.len());
    let family = std::str::from_utf8(family.of(request)).ok().filter(fits);
    Ok(family
        .map(|family| FamilyMetadata { family: family.into(), kind: MetricKind::from_wire(u64::from(kind)) }))
}
