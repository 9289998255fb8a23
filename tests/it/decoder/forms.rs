//! Series of one form, one behind the other, with others among them.

use promantis::wire::decode::{Decoded, Limits, Protocol, decode};
use promantis::wire::prompb::v1;
use prost::Message;

use super::{LATEST, NOW, series_v1};

/// A series of the form that all of these have, whatever its number up to 99 and its value.
fn formed(number: usize, value: f64) -> v1::TimeSeries {
    let pod = format!("checkout-{number:02}");
    let labels =
        [("__name__", "queue_length"), ("job", "kubernetes-pods-of-checkout"), ("pod", pod.as_str())];
    let mut series = series_v1(&labels, &[NOW + number as i64]);
    series.samples[0].value = value;
    series
}

/// Twelve of these, and `odd` in front of the one that is `at`.
fn among(odd: Vec<u8>, at: usize) -> Vec<Vec<u8>> {
    let value = |number| if number % 4 == 3 { 0.0 } else { number as f64 };
    let mut series: Vec<_> = (0..12).map(|number| formed(number, value(number)).encode_to_vec()).collect();
    series.insert(at, odd);
    series
}

/// A request of these messages of series.
fn request(series: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = Vec::new();
    for message in series {
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut raw);
        prost::encoding::encode_varint(message.len() as u64, &mut raw);
        raw.extend_from_slice(message);
    }
    raw
}

fn read(series: &[Vec<u8>]) -> Decoded {
    decode(Protocol::V1, request(series), &Limits::default(), LATEST).expect("a request within the limits")
}

/// All that is said of each series, and of what was refused.
fn content(decoded: &Decoded) -> (Vec<String>, [u64; 2]) {
    let sources = decoded.batch.sources();
    let said = decoded.batch.iter().map(|series| {
        let source = series.source.map(|source| &sources[source as usize]);
        format!("{} {:?} {:?} {source:?}", series.labels, series.hash, series.samples)
    });
    (
        said.collect(),
        [decoded.written.samples, decoded.refused.tallies().map(|(_, tally)| tally.samples).sum()],
    )
}

/// Decodes `odd` everywhere among others, and each of all series alone.
fn check(odd: &v1::TimeSeries) {
    let odd = odd.encode_to_vec();
    for at in 0..=12 {
        let series = among(odd.clone(), at);
        let (together, counts) = content(&read(&series));
        let alone: Vec<_> =
            series.iter().map(|series| content(&read(std::slice::from_ref(series)))).collect();
        let sums = [0, 1].map(|place| alone.iter().map(|(_, counts)| counts[place]).sum::<u64>());
        let alone: Vec<_> = alone.into_iter().flat_map(|(series, _)| series).collect();
        assert_eq!((together, counts), (alone, sums), "at {at}");
    }
}

#[test]
fn each_is_what_it_is_alone_whatever_stands_among_them() {
    let with = |place: usize, name: &str, value: &str| {
        let mut series = formed(50, 5.0);
        series.labels[place] = v1::Label { name: name.into(), value: value.into() };
        series
    };
    check(&formed(50, f64::NAN));
    check(&formed(50, 0.0));
    check(&with(2, "pod", "checkout-1"));
    check(&with(2, "pod", "checkout-é"));
    check(&with(2, "pud", "checkout-50"));
    check(&with(2, "job", "checkout-50"));
    check(&with(2, "pods", "checkout50"));
    check(&with(1, "zob", "kubernetes-pods-of-checkout"));
    check(&with(1, "__replica__", "kubernetes-pods-of"));
    check(&series_v1(&[("__name__", "up")], &[NOW]));
    let mut samples = formed(50, 5.0);
    samples.samples.extend(formed(51, 6.0).samples);
    check(&samples);
    let mut ahead = formed(50, 5.0);
    ahead.samples[0].timestamp = LATEST + 1;
    check(&ahead);
    let mut early = formed(50, 5.0);
    early.samples[0].timestamp = 5;
    check(&early);
}

#[test]
fn a_series_that_is_damaged_anywhere_is_what_it_is_alone() {
    let whole = formed(50, 5.0).encode_to_vec();
    for at in 0..whole.len() {
        for byte in [0, 1, whole[at] ^ 1, whole[at] ^ 0x80, 0xff] {
            let mut odd = whole.clone();
            odd[at] = byte;
            let outcome = |series: &[Vec<u8>]| {
                let decoded = decode(Protocol::V1, request(series), &Limits::default(), LATEST);
                decoded.map(|decoded| content(&decoded).0).map_err(|_| ())
            };
            let together = outcome(&among(odd.clone(), 9));
            let alone = outcome(&[odd]);
            assert_eq!(together.is_ok(), alone.is_ok(), "{byte:#x} at {at}");
            if let (Ok(together), Ok(alone)) = (together, alone) {
                assert_eq!(together[9..together.len() - 3], alone, "{byte:#x} at {at}");
            }
        }
    }
}

#[test]
fn those_of_one_form_count_towards_limits() {
    let series: Vec<_> = (0..12).map(|number| formed(number, 1.0).encode_to_vec()).collect();
    let check = |series_max, samples_max, expected: Option<&str>| {
        let limits = Limits { series_max, samples_max, ..Limits::default() };
        let outcome = decode(Protocol::V1, request(&series), &limits, LATEST);
        assert_eq!(outcome.err().map(|malformed| malformed.to_string()).as_deref(), expected);
    };
    check(12, 12, None);
    check(11, 12, Some("request has more series than `series_max` of 11; send smaller requests"));
    check(12, 11, Some("request has more samples than `samples_max` of 11; send smaller requests"));
    check(11, 11, Some("request has more series than `series_max` of 11; send smaller requests"));
}
