//! Reads a selector from text, and says where it fails.

use super::{Condition, MATCHERS_MAX, Matcher, SELECTOR_BYTES_MAX, SelectorError, pattern};
use crate::series::METRIC_NAME;

type Result<T> = std::result::Result<T, SelectorError>;

/// What is left to read of a selector.
struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    /// Regular expressions so far.
    expressions: usize,
}

/// The matchers of `selector` in the order in which they are written.
pub(super) fn parse(selector: &str) -> Result<Vec<Matcher>> {
    let mut parser = Parser { text: selector, rest: selector, expressions: 0 };
    if selector.len() > SELECTOR_BYTES_MAX {
        return parser.fail(format!("{} bytes exceed the limit of {SELECTOR_BYTES_MAX}", selector.len()));
    }
    parser.selector()
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Vec<Matcher>> {
        self.skip_blank();
        let mut matchers = Vec::new();
        let name = self.identifier(|c| matches!(c, '_' | ':'));
        if !name.is_empty() {
            matchers.push(Matcher::new(METRIC_NAME, Condition::Equal(name.into())));
        }
        self.skip_blank();
        if self.take("{") {
            self.list(&mut matchers)?;
        } else if name.is_empty() {
            return self.expected("a metric name or `{`");
        }
        self.skip_blank();
        if self.rest.is_empty() { Ok(matchers) } else { self.expected("the end") }
    }

    /// Everything after the opening brace.
    fn list(&mut self, matchers: &mut Vec<Matcher>) -> Result<()> {
        let mut named = !matchers.is_empty();
        loop {
            self.skip_blank();
            if self.take("}") {
                return Ok(());
            }
            let start = self.position();
            let mut matcher = self.item(&mut named)?;
            if matchers.len() >= MATCHERS_MAX {
                return self.fail(format!("more matchers than the limit of {MATCHERS_MAX}"));
            }
            self.skip_blank();
            if !self.take(",") && !self.rest.starts_with('}') {
                return self.expected("`,` or `}`");
            }
            matcher.written = start..self.position();
            matchers.push(matcher);
        }
    }

    /// One matcher, or a metric name in quotes. `named` tells whether a name stands alone already.
    fn item(&mut self, named: &mut bool) -> Result<Matcher> {
        let start = self.rest;
        let quoted = self.at_quote();
        let name = if quoted { self.quoted()? } else { self.identifier(|c| c == '_').to_owned() };
        if name.is_empty() {
            self.rest = start;
            return if quoted { self.fail("name is empty") } else { self.expected("a label name or `}`") };
        }
        self.skip_blank();
        let alone = quoted && (self.rest.starts_with([',', '}']) || self.rest.is_empty());
        if *named && (alone || name == METRIC_NAME) {
            self.rest = start;
            return self.fail("metric name is given twice");
        }
        *named |= alone;
        Ok(if alone {
            Matcher::new(METRIC_NAME, Condition::Equal(name.into()))
        } else {
            Matcher::new(&name, self.condition()?)
        })
    }

    /// Operator and value.
    fn condition(&mut self) -> Result<Condition> {
        let operators = ["=~", "!~", "!=", "="];
        let Some(operator) = operators.into_iter().find(|operator| self.take(operator)) else {
            return self.expected("`=`, `!=`, `=~` or `!~`");
        };
        self.skip_blank();
        if !self.at_quote() {
            return self.expected("a value in quotes");
        }
        let start = self.rest;
        let value = self.quoted()?;
        let compiled = |parser: &mut Self| {
            parser.expressions += 1;
            pattern::compile(&value, parser.expressions - 1).or_else(|problem| {
                parser.rest = start;
                parser.fail(format!("invalid regular expression: {problem}"))
            })
        };
        Ok(match operator {
            "=~" => Condition::Like(compiled(self)?),
            "!~" => Condition::NotLike(compiled(self)?),
            "!=" => Condition::NotEqual(value.into()),
            _ => Condition::Equal(value.into()),
        })
    }

    /// Letters, digits (not first) and what `extra` allows; empty where there is no identifier.
    fn identifier(&mut self, extra: impl Fn(char) -> bool) -> &'a str {
        let first = |c: char| c.is_ascii_alphabetic() || extra(c);
        if !self.rest.starts_with(first) {
            return "";
        }
        let end = self.rest.find(|c: char| !first(c) && !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (identifier, rest) = self.rest.split_at(end);
        self.rest = rest;
        identifier
    }

    fn at_quote(&self) -> bool {
        self.rest.starts_with(['"', '\'', '`'])
    }

    /// Text in quotes, which stand here.
    fn quoted(&mut self) -> Result<String> {
        let start = self.rest;
        let Some(quote) = self.next() else { return self.expected("a value in quotes") };
        let mut bytes = Vec::new();
        loop {
            let here = self.rest;
            match self.next() {
                Some(c) if c == quote => break,
                Some('\\') if quote != '`' => {
                    if let Err(problem) = self.escape(quote, &mut bytes) {
                        self.rest = here;
                        return self.fail(problem);
                    }
                }
                Some(c) if c != '\n' || quote == '`' => {
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => {
                    self.rest = start;
                    return self.fail("quote is not closed");
                }
            }
        }
        String::from_utf8(bytes).or_else(|_| {
            self.rest = start;
            self.fail("text is not valid UTF-8")
        })
    }

    /// What follows a backslash, appended to `bytes`. `\x` and octals are single bytes, as in Go.
    fn escape(&mut self, quote: char, bytes: &mut Vec<u8>) -> std::result::Result<(), String> {
        let kind = self.next().ok_or("incomplete escape")?;
        let byte = match kind {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '\\' => b'\\',
            '"' | '\'' if kind == quote => kind as u8,
            'x' => self.number(2, 16)? as u8,
            'u' | 'U' => {
                let number = self.number(if kind == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(number).ok_or("escape stands for no character")?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            '0'..='7' => {
                let low = self.number(2, 8)?;
                let high = kind.to_digit(8).unwrap_or_default();
                u8::try_from(high * 64 + low).map_err(|_| "escape stands for no character")?
            }
            other => return Err(format!("unknown escape `\\{other}`")),
        };
        bytes.push(byte);
        Ok(())
    }

    /// Exactly `count` digits of base `radix`, at most 8.
    fn number(&mut self, count: usize, radix: u32) -> std::result::Result<u32, String> {
        let mut number = 0;
        for _ in 0..count {
            let digit = self.next().and_then(|c| c.to_digit(radix)).ok_or("incomplete escape")?;
            number = number * radix + digit;
        }
        Ok(number)
    }

    /// Skips white space, and comments to the end of their line.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    /// How many bytes were read.
    fn position(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest.strip_prefix(token).inspect(|rest| self.rest = rest).is_some()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        match self.rest.chars().next() {
            Some(c) => self.fail(format!("expected {what}, found `{c}`")),
            None => self.fail(format!("expected {what}, found the end")),
        }
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T> {
        let position = self.text[..self.position()].chars().count() + 1;
        Err(SelectorError { position, problem: problem.into() })
    }
}
