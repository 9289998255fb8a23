//! Regular expressions of Prometheus, for the `regex` crate.
//!
//! Prometheus has RE2's syntax, which is almost that of the crate. What differs is rewritten: `\d`, `\w`, `\s` and
//! `\b` mean ASCII, `\Q…\E` is literal, `\<` is a sign and no word boundary, and inside brackets `[`, `&` and `~`
//! are signs.
//!
//! Source: <https://github.com/google/re2/wiki/Syntax>.

use regex::{Error, Regex, RegexBuilder};

/// Bytes that the first compiled expression of a selector may take; its lazily built automaton may take as much again.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// How deep groups may be nested.
const NEST_MAX: u32 = 100;

/// Compiles `pattern`, anchored at both ends; a dot takes line breaks too. The n-th expression of a selector may take
/// one n-th of what the first may: together they take five times as much at most, in memory and in time.
pub(super) fn compile(pattern: &str, earlier: usize) -> Result<Regex, String> {
    let pattern = translate(pattern);
    // Alone first: `a)|(b` is valid only between the parentheses of the anchored form, and would break out of it.
    // Its syntax is all that counts, so no bytes are given for more.
    match build(&pattern, 0) {
        Ok(_) | Err(Error::CompiledTooBig(_)) => {}
        Err(error) => return Err(last_line(&error.to_string())),
    }
    let bytes_max = COMPILED_BYTES_MAX / (earlier + 1);
    build(&format!("^(?s:{pattern})$"), bytes_max).map_err(|error| last_line(&error.to_string()))
}

fn build(pattern: &str, bytes_max: usize) -> Result<Regex, Error> {
    RegexBuilder::new(pattern).size_limit(bytes_max).dfa_size_limit(bytes_max).nest_limit(NEST_MAX).build()
}

/// The crate draws the pattern with a caret below it; the reason stands in the last line.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.trim_end_matches('.').to_lowercase()
}

/// The same expression in the crate's syntax.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, in_class, &mut out),
            '[' if in_class => bracket(after, &mut out),
            '[' => {
                in_class = true;
                open_class(after, &mut out)
            }
            ']' => {
                in_class = false;
                out.push(c);
                after
            }
            '&' | '~' if in_class => {
                out.extend(['\\', c]);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// What follows an opening bracket: `^` and a `]` that stands first belong to it.
fn open_class<'a>(after: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let inner = after.strip_prefix('^').inspect(|_| out.push('^')).unwrap_or(after);
    inner.strip_prefix(']').inspect(|_| out.push_str("\\]")).unwrap_or(inner)
}

/// A bracket inside brackets: `[:alpha:]` whole, or a sign.
fn bracket<'a>(after: &'a str, out: &mut String) -> &'a str {
    if let Some((class, rest)) = after.strip_prefix(':').and_then(|named| named.split_once(":]")) {
        out.push_str("[:");
        out.push_str(class);
        out.push_str(":]");
        return rest;
    }
    out.push_str("\\[");
    after
}

/// What follows a backslash.
fn escape<'a>(after: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(kind) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[kind.len_utf8()..];
    if kind == 'Q' {
        let (literal, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
        out.push_str(&regex::escape(literal));
        return rest;
    }
    match kind {
        'd' if in_class => out.push_str("0-9"),
        'w' if in_class => out.push_str("0-9A-Za-z_"),
        's' if in_class => out.push_str(r"\t\n\f\r\x20"),
        'd' => out.push_str("[0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\f\r\x20]"),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str(r"[^\t\n\f\r\x20]"),
        'b' | 'B' => out.extend(["(?-u:\\", kind.encode_utf8(&mut [0; 4]), ")"]),
        '<' | '>' => out.push(kind),
        _ => out.extend(['\\', kind]),
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let regex = compile(pattern, 0).expect(pattern);
        for text in matching {
            assert!(regex.is_match(text), "{pattern} {text}");
        }
        for text in others {
            assert!(!regex.is_match(text), "{pattern} {text}");
        }
    }

    #[test]
    fn classes_mean_ascii_as_in_re2() {
        check(r"\d+", &["42"], &["٤٢", "x"]);
        check(r"\w+", &["a_1"], &["ä"]);
        check(r"\W", &["ä", "-"], &["a"]);
        check(r"a\sb", &["a b", "a\tb"], &["a\u{a0}b"]);
        check(r"[\d.]+", &["1.5"], &["٤"]);
        check(r"[^\w]", &["ä"], &["a"]);
        check(r"[\D]", &["a"], &["1"]);
        check(r"x\b.*", &["x-", "xä"], &["xy"]);
    }

    #[test]
    fn signs_inside_brackets_are_signs() {
        check("[[]", &["["], &["]"]);
        check("[]a]+", &["]a"], &["["]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[a&&b]+", &["a&b"], &["c"]);
        check("[a~~b]+", &["a~b"], &["c"]);
        check("[[:digit:]x]+", &["1x"], &["a"]);
        check(r"[\]]", &["]"], &["\\"]);
    }

    #[test]
    fn quoted_passages_and_angle_brackets_are_literal() {
        check(r"\Qa.b\E.", &["a.bc"], &["axbc"]);
        check(r"\Q(", &["("], &[""]);
        check(r"\<a\>", &["<a>"], &["a"]);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for pattern in ["(", "[a", "a**b{", r"\", "(?P<n>a)(?P<n>b)", "a)|(b"] {
            let problem = compile(pattern, 0).expect_err(pattern);
            assert!(!problem.is_empty() && !problem.contains('\n'), "{pattern}: {problem}");
        }
    }
}
