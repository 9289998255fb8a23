//! Plain lines, read by `prometheus_parse` behind a guard.

use prometheus_parse::{Scrape, Value};

use super::strict::BLANKS;
use super::{Exposed, Format};

/// Digits of the longest timestamp that is plain. `prometheus_parse` takes longer ones for none.
const TIMESTAMP_DIGITS_MAX: usize = 15;

/// What the guard saw, to be compared with what was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    labels: usize,
    timestamped: bool,
}

/// Reads `line` if it is plain and was read as it was seen; `None` leaves it to the strict reader.
pub(super) fn read(line: &str, format: Format) -> Option<Exposed> {
    let shape = guard(line).filter(|shape| format == Format::Text || !shape.timestamped)?;
    // The time given here marks samples without a timestamp, which the guard has told apart.
    let scrape = Scrape::parse_at(std::iter::once(Ok(line.to_owned())), Default::default()).ok()?;
    let [sample] = <[_; 1]>::try_from(scrape.samples).ok()?;
    let (Value::Untyped(value), true) = (sample.value, sample.labels.len() == shape.labels) else {
        return None;
    };
    let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    Some(Exposed {
        labels: labels.collect(),
        name: sample.metric,
        value,
        timestamp: shape.timestamped.then(|| sample.timestamp.timestamp_millis()),
    })
}

/// Lets through `name VALUE`, `name{a="b",c="d"} VALUE` and both with a timestamp in milliseconds, where label values
/// have none of `\ " , = { }`.
fn guard(line: &str) -> Option<Shape> {
    let rest = after_name(line)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => guard_labels(inside)?,
        None => (0, rest),
    };
    if !rest.starts_with(BLANKS) {
        return None;
    }
    let mut words = rest.split(BLANKS).filter(|word| !word.is_empty());
    let (value, timestamp, more) = (words.next()?, words.next(), words.next());
    let digits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let plain = value.bytes().all(digits) && timestamp.is_none_or(is_timestamp);
    (plain && more.is_none()).then_some(Shape { labels, timestamped: timestamp.is_some() })
}

/// Counts the labels up to the closing brace, at least one, and returns what follows it.
fn guard_labels(inside: &str) -> Option<(usize, &str)> {
    let (mut rest, mut count) = (inside, 0);
    loop {
        let value = after_name(rest).filter(|_| !rest.starts_with("__name__="))?.strip_prefix("=\"")?;
        let (value, after) = value.split_once('"')?;
        if value.contains(['\\', ',', '=', '{', '}']) {
            return None;
        }
        count += 1;
        rest = after.strip_prefix(',').unwrap_or(after);
        match rest.strip_prefix('}') {
            Some(outside) => return Some((count, outside)),
            None if rest.len() == after.len() => return None,
            None => {}
        }
    }
}

/// What follows a name of letters, digits and `_`.
fn after_name(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins.then(|| &text[end..])
}

fn is_timestamp(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    (1..=TIMESTAMP_DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, labels: usize, timestamped: bool) {
        assert_eq!(guard(line), Some(Shape { labels, timestamped }), "{line}");
    }

    #[test]
    fn plain_lines_are_let_through() {
        check("up 1", 0, false);
        check("up\t 1 \t1700000000000", 0, true);
        check("up 1 -1", 0, true);
        check(r#"up{a="b"} NaN"#, 1, false);
        check(r#"up{a="b",_c="",} +Inf 5"#, 2, true);
        check(r#"up{a="blanks and ümläute"} 1"#, 1, false);
    }

    #[test]
    fn lines_that_prometheus_parse_alters_are_kept_from_it() {
        for line in [
            "job:http:rate5m 2",
            r#"up{} 7"#,
            r#"{"utf8.name"} 12"#,
            r#"up {a="b"} 1"#,
            r#"up{ a="b"} 1"#,
            r#"up{a = "b"} 1"#,
            r#"up{a="b", c="d"} 1"#,
            r#"up{a="x,y"} 1"#,
            r#"up{a="x=y"} 1"#,
            r#"up{a="{id}"} 1"#,
            r#"up{a="quo\"te"} 1"#,
            r#"up{a="b""} 1"#,
            r#"up{a="b",,} 1"#,
            r#"up{__name__="down"} 1"#,
            r#"up{a="b"}1"#,
            "up 1 2 3",
            "up 1 5.5",
            "up 1 9223372036854775807",
            "up 1 # {} 1",
            "up",
            "7up 1",
            "ünits 1",
            "up 1\u{a0}2",
        ] {
            assert_eq!(guard(line), None, "{line}");
        }
    }

    #[test]
    fn a_plain_line_that_was_read_otherwise_than_seen_is_left_to_the_strict_reader() {
        assert_eq!(read(r#"up{a="1",a="2"} 1"#, Format::Text), None);
        assert_eq!(read("up one", Format::Text), None);
    }
}
