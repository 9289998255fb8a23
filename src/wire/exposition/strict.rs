//! The strict reader of single lines: takes what the formats allow, and says what is wrong with the rest.

use super::{Exposed, Format};
use crate::series::{METRIC_NAME, MetricKind};

/// What separates words.
pub(super) const BLANKS: [char; 2] = [' ', '\t'];

/// Bytes of a line that an error shows.
const SHOWN_BYTES_MAX: usize = 32;

/// Seconds since the epoch beyond which a timestamp is taken for a mistake: about 300,000 years.
const SECONDS_MAX: f64 = 1e13;

/// What is wrong with a line.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Something else stands where this should.
    #[error("expected {expected}, found {found:?}")]
    Expected {
        /// What should stand there.
        expected: &'static str,
        /// What stands there, cut to 32 bytes; empty at the end of the line.
        found: String,
    },
    /// Quoted text without its closing quote.
    #[error("quoted text does not end")]
    OpenQuote,
    /// A backslash before something else than `\`, `"` and `n`.
    #[error("unknown escape \\{} in quoted text", .0.escape_debug())]
    UnknownEscape(char),
    /// Two labels of one name, cut to 32 bytes.
    #[error("label {0:?} stands twice")]
    DuplicateLabel(String),
    /// More of something than there may be.
    #[error("more {what} than {max}")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A text that is longer than it may be.
    #[error("{what} longer than {max} bytes")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// The limit in bytes.
        max: usize,
    },
    /// A timestamp in the future.
    #[error("timestamp {timestamp} is later than {latest}, the latest that is taken")]
    TooFarAhead {
        /// Unix milliseconds.
        timestamp: i64,
        /// The limit in Unix milliseconds.
        latest: i64,
    },
    /// A family whose type was already said to be another.
    #[error("second and different type of family {family:?}")]
    SecondType {
        /// Name of the family, cut to 32 bytes.
        family: String,
    },
    /// OpenMetrics: something after the end.
    #[error("stands after `# EOF`")]
    AfterEnd,
    /// OpenMetrics: no end.
    #[error("page ends without `# EOF`; it may be cut off")]
    NoEnd,
}

/// Reads a line that is neither empty nor a comment. Labels are as written: unsorted, perhaps empty or twice.
pub(super) fn sample(line: &str, format: Format) -> Result<Exposed, Fault> {
    let mut rest = Rest(line);
    let mut labels = Vec::new();
    let mut name = rest.bare_name().map(str::to_owned);
    rest.skip_blanks();
    if rest.take('{') {
        rest.labels(&mut labels, &mut name)?;
    } else if name.is_none() {
        return Err(rest.expected("a metric name or `{`"));
    }
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| rest.expected("a metric name"))?;
    let value = rest.number("a value")?;
    let timestamp = match rest.at_end_or_exemplar() {
        true => None,
        false => Some(rest.timestamp(format)?),
    };
    rest.exemplar()?;
    Ok(Exposed { name, labels, value, timestamp })
}

/// Reads what follows `TYPE`: a family, bare or in quotes, and its type.
pub(super) fn family_type(text: &str) -> Result<(String, MetricKind), Fault> {
    let mut rest = Rest(text);
    rest.skip_blanks();
    let family =
        if rest.0.starts_with('"') { Some(rest.quoted()?) } else { rest.bare_name().map(str::to_owned) };
    let family = family.filter(|name| !name.is_empty()).ok_or_else(|| rest.expected("a family's name"))?;
    rest.skip_blanks();
    let kind = match rest.0 {
        "counter" => MetricKind::Counter,
        "gauge" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "gaugehistogram" => MetricKind::GaugeHistogram,
        "summary" => MetricKind::Summary,
        "info" => MetricKind::Info,
        "stateset" => MetricKind::StateSet,
        "untyped" | "unknown" => MetricKind::Unknown,
        _ => return Err(rest.expected("a type")),
    };
    Ok((family, kind))
}

/// As much of `text` as an error shows.
pub(super) fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(SHOWN_BYTES_MAX)].to_owned()
}

/// What is still to be read of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn expected(&self, expected: &'static str) -> Fault {
        Fault::Expected { expected, found: shown(self.0) }
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches(BLANKS);
    }

    fn take(&mut self, wanted: char) -> bool {
        let after = self.0.strip_prefix(wanted);
        self.0 = after.unwrap_or(self.0);
        after.is_some()
    }

    /// A name of letters, digits, `_` and `:`, not beginning with a digit.
    fn bare_name(&mut self) -> Option<&'a str> {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let end = self.0.find(|c| !inside(c)).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.0 = rest;
        Some(name)
    }

    /// Labels up to the closing brace. Without a name before the brace, the first quoted text alone is the name.
    fn labels(&mut self, labels: &mut Vec<(String, String)>, name: &mut Option<String>) -> Result<(), Fault> {
        loop {
            self.skip_blanks();
            if self.take('}') {
                return Ok(());
            }
            let quoted = self.0.starts_with('"');
            let key = self.key()?;
            self.skip_blanks();
            if quoted && name.is_none() && labels.is_empty() && !self.0.starts_with('=') {
                *name = Some(key);
            } else {
                labels.push((key, self.value()?));
            }
            self.skip_blanks();
            if !self.take(',') && !self.0.starts_with('}') {
                return Err(self.expected("`,` or `}`"));
            }
        }
    }

    fn key(&mut self) -> Result<String, Fault> {
        let before = Rest(self.0);
        let key = match self.0.starts_with('"') {
            true => self.quoted()?,
            false => self.bare_name().unwrap_or_default().to_owned(),
        };
        match key.as_str() {
            "" => Err(before.expected("a label name")),
            METRIC_NAME => Err(before.expected("a label name other than `__name__`")),
            _ => Ok(key),
        }
    }

    fn value(&mut self) -> Result<String, Fault> {
        if !self.take('=') {
            return Err(self.expected("`=`"));
        }
        self.skip_blanks();
        self.quoted()
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        if !self.take('"') {
            return Err(self.expected("`\"`"));
        }
        let mut text = String::new();
        loop {
            let special = self.0.find(['"', '\\']).ok_or(Fault::OpenQuote)?;
            let (before, after) = self.0.split_at(special);
            text.push_str(before);
            self.0 = after;
            if self.take('"') {
                return Ok(text);
            }
            self.take('\\');
            text.push(match self.0.chars().next() {
                Some('n') => '\n',
                Some(same @ ('\\' | '"')) => same,
                Some(other) => return Err(Fault::UnknownEscape(other)),
                None => return Err(Fault::OpenQuote),
            });
            self.0 = &self.0[1..];
        }
    }

    fn word(&mut self) -> &'a str {
        self.skip_blanks();
        let (word, rest) = self.0.split_at(self.0.find(BLANKS).unwrap_or(self.0.len()));
        self.0 = rest;
        word
    }

    fn number(&mut self, what: &'static str) -> Result<f64, Fault> {
        let word = self.word();
        word.parse().map_err(|_| Rest(word).expected(what))
    }

    fn timestamp(&mut self, format: Format) -> Result<i64, Fault> {
        let word = self.word();
        match format {
            Format::Text => {
                word.parse().map_err(|_| Rest(word).expected("a timestamp in whole milliseconds"))
            }
            Format::OpenMetrics => {
                let seconds: Option<f64> = word.parse().ok().filter(|it: &f64| it.abs() <= SECONDS_MAX);
                let ms = seconds.map(|seconds| (seconds * 1000.0).round() as i64);
                ms.ok_or_else(|| Rest(word).expected("a timestamp in seconds"))
            }
        }
    }

    fn at_end_or_exemplar(&mut self) -> bool {
        self.skip_blanks();
        self.0.is_empty() || self.0.starts_with('#')
    }

    /// Reads an exemplar, which is not kept, and the end of the line.
    fn exemplar(&mut self) -> Result<(), Fault> {
        self.skip_blanks();
        if self.take('#') {
            self.skip_blanks();
            if !self.take('{') {
                return Err(self.expected("the labels of an exemplar"));
            }
            self.labels(&mut Vec::new(), &mut Some(String::new()))?;
            self.number("the value of an exemplar")?;
            self.skip_blanks();
            if !self.0.is_empty() {
                self.timestamp(Format::OpenMetrics)?;
            }
        }
        self.skip_blanks();
        if self.0.is_empty() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }
}
