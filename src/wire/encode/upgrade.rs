//! Requests of remote write 1.0 in the words of 2.0: each text once, and of each series that it is a gauge.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, 2.0-rc.4.

use std::collections::HashMap;

use super::{LABEL_FIELD, SAMPLE_TAG, SERIES_FIELD, push_varint};
use crate::wire::fields::{Fields, Span};

/// Number of the field of a series that holds a sample; what stands in it is the same in both versions.
const SAMPLE_FIELD: u32 = 2;
/// Tag of a symbol in a request.
const SYMBOL_TAG: u8 = 0x22;
/// Tag of a series in a request.
const SERIES_TAG: u8 = 0x2a;
/// Tag of the references to symbols in a series.
const REFS_TAG: u8 = 0x0a;
/// What a series says of itself: two bytes, of which the first is the tag of its type, and that it is a gauge.
const GAUGE: [u8; 4] = [0x2a, 2, 0x08, 2];

/// Texts in the order in which they came, the empty one first.
struct Symbols<'a> {
    texts: Vec<&'a [u8]>,
    places: HashMap<&'a [u8], u64>,
}

impl<'a> Symbols<'a> {
    fn new() -> Self {
        Self { texts: vec![b""], places: HashMap::from([(&b""[..], 0)]) }
    }

    fn place(&mut self, text: &'a [u8]) -> u64 {
        *self.places.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u64 - 1
        })
    }
}

/// The request `raw`, whose series are gauges, in version 2.0: the same series with the same samples, in order.
///
/// `None` where `raw` is no protobuf. What is neither a label nor a sample is left out. The same bytes always give the
/// same; costs a look-up of each label's name and value.
pub fn upgrade(raw: &[u8]) -> Option<Vec<u8>> {
    let mut symbols = Symbols::new();
    let (mut all, mut head, mut refs, mut samples) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields::over(raw).ok()?;
    while let Some(field) = fields.next_field().ok()? {
        if field.number != SERIES_FIELD {
            continue;
        }
        refs.clear();
        samples.clear();
        series(raw, field.bytes().ok()?, &mut symbols, (&mut refs, &mut samples))?;
        head.clear();
        head.push(REFS_TAG);
        push_varint(&mut head, refs.len() as u64);
        all.push(SERIES_TAG);
        push_varint(&mut all, (head.len() + refs.len() + samples.len() + GAUGE.len()) as u64);
        [&head, &refs, &samples, &GAUGE[..]].iter().for_each(|part| all.extend_from_slice(part));
    }
    let mut request = Vec::with_capacity(all.len() + 16 * symbols.texts.len());
    symbols.texts.iter().for_each(|text| push_bytes(&mut request, SYMBOL_TAG, text));
    request.extend(all);
    Some(request)
}

/// Adds the references of the labels that stand at `span`, and the samples.
fn series<'a>(
    raw: &'a [u8],
    span: Span,
    symbols: &mut Symbols<'a>,
    (refs, samples): (&mut Vec<u8>, &mut Vec<u8>),
) -> Option<()> {
    let mut fields = Fields::within(raw, span);
    while let Some(field) = fields.next_field().ok()? {
        match field.number {
            LABEL_FIELD => {
                let mut texts = [&b""[..]; 2];
                let mut label = Fields::within(raw, field.bytes().ok()?);
                while let Some(text) = label.next_field().ok()? {
                    if let Some(place) = texts.get_mut((text.number as usize).wrapping_sub(1)) {
                        *place = text.bytes().ok()?.of(raw);
                    }
                }
                texts.into_iter().for_each(|text| push_varint(refs, symbols.place(text)));
            }
            SAMPLE_FIELD => push_bytes(samples, SAMPLE_TAG, field.bytes().ok()?.of(raw)),
            _ => {}
        }
    }
    Some(())
}

fn push_bytes(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    push_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::RequestBuilder;
    use super::*;
    use crate::series::{LabelRunBuf, Sample};
    use crate::wire::prompb::v2;

    #[test]
    fn both_versions_say_the_same() {
        let series: Vec<_> =
            (0..300).map(|number| [("__name__", "up".to_owned()), ("pod", format!("p{number}"))]).collect();
        let mut builder = RequestBuilder::new();
        for (number, labels) in series.iter().enumerate() {
            let run =
                labels.iter().map(|(name, value)| (*name, value.as_str())).collect::<LabelRunBuf>().encode();
            builder.push(&[&run], Sample { timestamp: 1_700_000_000_000, value: number as f64 });
        }
        let request = v2::Request::decode(&*upgrade(&builder.finish()).unwrap()).unwrap();
        assert_eq!(request.symbols[..4], [&b""[..], b"__name__", b"up", b"pod"]);
        assert_eq!((request.symbols.len(), request.timeseries.len()), (4 + 300, 300));
        for (number, (labels, found)) in series.iter().zip(&request.timeseries).enumerate() {
            let texts = found.labels_refs.iter().map(|place| request.symbols[*place as usize].as_slice());
            let expected = labels.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
            assert!(texts.eq(expected), "{found:?}");
            let sample =
                v2::Sample { value: number as f64, timestamp: 1_700_000_000_000, start_timestamp: 0 };
            assert_eq!(found.samples, [sample]);
            assert_eq!(
                found.metadata.as_ref().map(|it| it.r#type),
                Some(v2::metadata::MetricType::Gauge as i32)
            );
        }
    }

    #[test]
    fn what_is_no_request_has_no_other_version() {
        assert_eq!(upgrade(b"garbage"), None);
        assert_eq!(upgrade(b"\x0a\x02\x0a\xff"), None);
        assert_eq!(upgrade(b""), Some(vec![SYMBOL_TAG, 0]));
    }
}
