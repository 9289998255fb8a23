//! Which series a monitor takes: PromQL's instant vector selector, matched once per series.
//!
//! Understands what Prometheus understands between the name and the closing brace: `name`,
//! `name{a="b", c!="d", e=~"re", f!~"re"}`, names in quotes (`{"utf8.name", "a label"="x"}`), three kinds of
//! quotes with their escapes, a trailing comma, comments. A label that is missing is empty text, and
//! regular expressions are anchored at both ends. Unlike in Prometheus, `{}` is allowed: every series.
//!
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors>.

mod parser;
mod pattern;

use std::collections::BTreeMap;
use std::ops::Range;

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::series::{Label, LabelRun};

/// Bytes that a selector may have.
pub const SELECTOR_BYTES_MAX: usize = 64 * 1024;
/// Matchers that a selector may have.
pub const MATCHERS_MAX: usize = 64;

/// A checked selector. Serialised as its text.
#[derive(Clone, Debug)]
pub struct Matchers {
    source: Box<str>,
    /// Sorted by name, as labels are, so that both are walked once. All must agree; none means every series.
    matchers: Box<[Matcher]>,
}

/// Why a selector cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem} at character {position}")]
pub struct SelectorError {
    /// Which character of the selector, counted from 1.
    pub position: usize,
    /// What is wrong there.
    pub problem: String,
}

/// What is asked of one label.
#[derive(Clone, Debug)]
struct Matcher {
    name: Box<str>,
    condition: Condition,
    /// Where it stands in the text, with the comma behind it; empty for a name before the brace.
    written: Range<usize>,
}

/// What is asked of a value.
#[derive(Clone, Debug)]
enum Condition {
    Equal(Box<str>),
    NotEqual(Box<str>),
    Like(Regex),
    NotLike(Regex),
}

impl Matchers {
    /// Reads `name{label="value", other=~"regex"}`.
    ///
    /// Fails where the text is no instant vector selector, is longer than [`SELECTOR_BYTES_MAX`], has more than
    /// [`MATCHERS_MAX`] matchers, or has a regular expression that is invalid or compiles to more than its share: 1 MiB
    /// for the first, half of that for the second, a third for the third.
    pub fn parse(selector: &str) -> Result<Self, SelectorError> {
        let mut matchers = parser::parse(selector)?;
        matchers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { source: selector.into(), matchers: matchers.into() })
    }

    /// Whether the series with these labels is meant.
    ///
    /// One walk along the labels, up to the last one asked for: some 35 ns per label, 100 to 200 ns more per regular
    /// expression. A plain name is settled before the first lower-case label, in some 60 ns. Allocates nothing, but
    /// for the scratch space that a regular expression makes once per thread.
    pub fn matches(&self, labels: LabelRun<'_>) -> bool {
        let mut rest = labels.iter().peekable();
        self.matchers.iter().all(|matcher| {
            while rest.next_if(|label| label.name < &*matcher.name).is_some() {}
            matcher.condition.holds(value_of(rest.peek(), &matcher.name))
        })
    }

    /// What is left to ask where series lack labels that they are known to have: the text without what it asks of
    /// those of `known`, but for labels of which it asks something else.
    ///
    /// Takes, beside others, each series that this selector takes once it has got those of `known` that it lacks.
    pub fn text_given(&self, known: &BTreeMap<String, String>) -> String {
        let asks_else = |name: &str, value: &str| {
            let mut of_it = self.matchers.iter().filter(|matcher| *matcher.name == *name);
            of_it.any(|matcher| !matcher.condition.holds(value))
        };
        let is_settled = |matcher: &&Matcher| {
            known.get(&*matcher.name).is_some_and(|value| !asks_else(&matcher.name, value))
        };
        let mut settled: Vec<_> = self.matchers.iter().filter(is_settled).collect();
        settled.sort_by_key(|matcher| matcher.written.start);
        let (mut text, mut at) = (String::new(), 0);
        for Matcher { written, .. } in settled {
            text.push_str(&self.source[at..written.start]);
            at = written.end;
        }
        text.push_str(&self.source[at..]);
        text
    }
}

impl Matcher {
    /// One that is written nowhere yet.
    fn new(name: &str, condition: Condition) -> Self {
        Self { name: name.into(), condition, written: 0..0 }
    }
}

impl PartialEq for Matchers {
    /// Two selectors are the same when they are written the same.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Serialize for Matchers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&Box::<str>::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// Writes the selector as the user wrote it.
impl std::fmt::Display for Matchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

impl Condition {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equal(text) => **text == *value,
            Self::NotEqual(text) => **text != *value,
            Self::Like(regex) => regex.is_match(value),
            Self::NotLike(regex) => !regex.is_match(value),
        }
    }
}

/// The value of `label` if it is the one called `name`; a label that is missing is empty.
fn value_of<'a>(label: Option<&Label<'a>>, name: &str) -> &'a str {
    label.filter(|label| label.name == name).map_or("", |label| label.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::LabelRunBuf;

    /// One series: name, then labels, every kind of case once.
    const SERIES: [(&str, &str); 6] = [
        ("__name__", "http_requests_total"),
        ("Zone", "eu"),
        ("code", "503"),
        ("job", "api"),
        ("path", "/a\nb"),
        ("utf8 label", "ü"),
    ];

    #[track_caller]
    fn check(selector: &str, expected: bool) {
        let run = SERIES.into_iter().collect::<LabelRunBuf>().encode();
        let matchers = Matchers::parse(selector).expect(selector);
        assert_eq!(matchers.matches(LabelRun::from_canonical(&run)), expected, "{selector}");
    }

    #[track_caller]
    fn check_error(selector: &str, expected: &str) {
        assert_eq!(Matchers::parse(selector).expect_err(selector).to_string(), expected, "{selector}");
    }

    #[test]
    fn a_name_selects_by_name() {
        check("http_requests_total", true);
        check("http_requests", false);
        check("http_requests_total{}", true);
        check(r#"{"http_requests_total"}"#, true);
        check(r#"{__name__="http_requests_total"}"#, true);
        check(r#"{__name__=~"http_.+", __name__!~".+_bucket"}"#, true);
        check(" http_requests_total\n{ # a comment\n\tjob = 'api' , }\r\n", true);
        check("sum{job='api'}", false);
    }

    #[test]
    fn nothing_asked_selects_everything() {
        check("{}", true);
        check(" { } ", true);
    }

    #[test]
    fn all_matchers_must_agree() {
        check(r#"{job="api",code="503",Zone="eu"}"#, true);
        check(r#"{job="api",code="503",Zone="us"}"#, false);
        check(r#"{code=~"5..",code!="500"}"#, true);
        check(r#"{code=~"5..",code!="503"}"#, false);
    }

    #[test]
    fn a_missing_label_is_empty_text() {
        check(r#"{gone=""}"#, true);
        check(r#"{gone!=""}"#, false);
        check(r#"{gone!="x"}"#, true);
        check(r#"{gone=~".*"}"#, true);
        check(r#"{gone=~".+"}"#, false);
        check(r#"{gone=~""}"#, true);
        check(r#"{gone=~"x|"}"#, true);
        check(r#"{gone!~".+"}"#, true);
        check(r#"{zzz=""}"#, true);
        check(r#"{A=""}"#, true);
        check(r#"{job!=""}"#, true);
        check(r#"{job=~".+"}"#, true);
        check(r#"{job=""}"#, false);
    }

    #[test]
    fn what_is_known_of_labels_is_not_asked() {
        let known = [("cluster", "eu"), ("site", "a")].map(|(name, value)| (name.into(), value.into()));
        let known = BTreeMap::from(known);
        let check = |selector: &str, expected: &str| {
            let text = Matchers::parse(selector).expect(selector).text_given(&known);
            assert_eq!(text, expected);
            Matchers::parse(&text).expect("what is left is a selector");
        };
        check("up", "up");
        check(r#"up{job="a"}"#, r#"up{job="a"}"#);
        check(r#"{cluster="eu"}"#, "{}");
        check(r#"up{cluster="eu",}"#, "up{}");
        check(r#"{site=~"a|b", job="a", "cluster"!="us"}"#, r#"{ job="a", }"#);
        check("up{cluster='eu' # one\n, # two\n job='a'}", "up{ # two\n job='a'}");
        check(r#"up{cluster="us", site="a"}"#, r#"up{cluster="us", }"#);
        check(r#"up{cluster="eu", cluster!~"e."}"#, r#"up{cluster="eu", cluster!~"e."}"#);
    }

    #[test]
    fn regular_expressions_are_anchored_and_dots_take_line_breaks() {
        check(r#"{job=~"ap"}"#, false);
        check(r#"{job=~"pi"}"#, false);
        check(r#"{job=~"a|api"}"#, true);
        check(r#"{job!~"a|b"}"#, true);
        check(r#"{path=~"/a.b"}"#, true);
        check(r#"{job=~"(?i)API"}"#, true);
    }

    #[test]
    fn quotes_and_escapes_are_those_of_promql() {
        check(r#"{path="/a\nb"}"#, true);
        check("{path=`/a\nb`}", true);
        check(r"{path=`/a\nb`}", false);
        check(r#"{"utf8 label"="\u00fc"}"#, true);
        check(r#"{"utf8 label"='\xc3\xbc'}"#, true);
        check(r#"{"utf8 label"='\303\274'}"#, true);
        check(r#"{"utf8 label"="\U000000fc"}"#, true);
        check(r#"{job!='it\'s'}"#, true);
        check(r#"{'job'="ap\x69"}"#, true);
        check(r#"{code=~"\\d+"}"#, true);
    }

    #[test]
    fn errors_say_what_and_where() {
        check_error("", "expected a metric name or `{`, found the end at character 1");
        check_error("1up", "expected a metric name or `{`, found `1` at character 1");
        check_error("up{", "expected a label name or `}`, found the end at character 4");
        check_error("up{job}", "expected `=`, `!=`, `=~` or `!~`, found `}` at character 7");
        check_error("up{job=}", "expected a value in quotes, found `}` at character 8");
        check_error("up{job=\"a\" b=\"c\"}", "expected `,` or `}`, found `b` at character 12");
        check_error("up{,}", "expected a label name or `}`, found `,` at character 4");
        check_error("up{a:b=\"c\"}", "expected `=`, `!=`, `=~` or `!~`, found `:` at character 5");
        check_error("up{job=\"a", "quote is not closed at character 8");
        check_error("up{job=\"a\nb\"}", "quote is not closed at character 8");
        check_error(r#"up{ü="a\q"}"#, "expected a label name or `}`, found `ü` at character 4");
        check_error(r#"up{"ü"="a\q"}"#, "unknown escape `\\q` at character 10");
        check_error(r#"up{a="\xff"}"#, "text is not valid UTF-8 at character 6");
        check_error(r#"up{a="\xf"}"#, "incomplete escape at character 7");
        check_error(r#"up{a="\400"}"#, "escape stands for no character at character 7");
        check_error(r#"up{a="\ud800"}"#, "escape stands for no character at character 7");
        check_error(r#"up{"down"}"#, "metric name is given twice at character 4");
        check_error(r#"up{__name__="down"}"#, "metric name is given twice at character 4");
        check_error(r#"{""}"#, "name is empty at character 2");
        check_error("up[5m]", "expected the end, found `[` at character 3");
        check_error("up offset 5m", "expected the end, found `o` at character 4");
        check_error("rate(up)", "expected the end, found `(` at character 5");
    }

    #[test]
    fn bad_and_huge_regular_expressions_are_refused() {
        let bad = Matchers::parse(r#"{a=~"x("}"#).expect_err("unclosed group").to_string();
        assert!(bad.starts_with("invalid regular expression: unclosed group"), "{bad}");
        assert!(bad.ends_with("at character 5"), "{bad}");
        let huge = Matchers::parse(r#"{a=~"(\\pL{1000}){1000}"}"#).expect_err("huge").to_string();
        assert!(huge.contains("1048576"), "{huge}");
    }

    /// Each alone is allowed. 64 of them took seconds and more than 64 MiB.
    #[test]
    fn several_regular_expressions_have_less_room_each() {
        let large = r#"a=~"\\pL{20}""#;
        assert!(Matchers::parse(&format!("{{{large}}}")).is_ok());
        let several =
            Matchers::parse(&format!("{{{large},{large},{large}}}")).expect_err("too large").to_string();
        assert!(several.contains("size limit"), "{several}");
        let small = vec![r#"a=~"x|y.*""#; MATCHERS_MAX].join(",");
        assert!(Matchers::parse(&format!("{{{small}}}")).is_ok());
    }

    #[test]
    fn length_and_number_of_matchers_are_bounded() {
        let long = format!("{{a=\"{}\"}}", "x".repeat(SELECTOR_BYTES_MAX));
        assert!(Matchers::parse(&long).is_err());
        let most = format!("{{{}}}", "a=\"b\",".repeat(MATCHERS_MAX));
        assert!(Matchers::parse(&most).is_ok());
        let many = format!("{{{}}}", "a=\"b\",".repeat(MATCHERS_MAX + 1));
        assert!(Matchers::parse(&many).is_err());
    }

    proptest::proptest! {
        /// Whatever is written, the answer is a selector or an error.
        #[test]
        fn no_text_is_too_strange(text in "[{}\"'`\\\\a-c=!~,.*+\\[\\](\n#0-9 ü]{0,40}") {
            let _ = Matchers::parse(&text);
        }
    }
}
