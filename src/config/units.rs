//! Durations, sizes, shares and counts as people write them.
//!
//! Each reader takes the text of one value and answers with the value, or with what is wrong and what to write
//! instead.

use std::time::Duration;

/// The longest duration: 100 years, so that adding it to an instant cannot overflow.
const DURATION_MS_MAX: u64 = 100 * YEAR_MS;
const DAY_MS: u64 = 86_400_000;
const YEAR_MS: u64 = 365 * DAY_MS;

/// Units of durations, the longest first: they are written in this order, each at most once.
const DURATION_UNITS: [(&str, u64); 7] = [
    ("y", YEAR_MS),
    ("w", 7 * DAY_MS),
    ("d", DAY_MS),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Suffixes of numbers; those that end like another stand before it.
const SIZE_SUFFIXES: [(&str, f64); 10] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

/// A size up to here is a whole number of bytes in a float, too.
const SIZE_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads `30s`, `5m`, `1h30m`, `7d`, `500ms` or `0`, at most 100 years.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || format!("`{text}` is no duration; write for example 30s, 5m, 1h30m or 7d");
    let mut units = DURATION_UNITS.iter();
    let (mut total, mut rest) = (0_u64, text);
    loop {
        let (number, unit, after) = split_duration(rest);
        let (_, ms) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number = if number.is_empty() { return Err(wrong()) } else { number.parse::<u64>() };
        total = number
            .ok()
            .and_then(|number| number.checked_mul(*ms))
            .and_then(|part| part.checked_add(total))
            .filter(|total| *total <= DURATION_MS_MAX)
            .ok_or_else(|| format!("`{text}` exceeds the limit of 100y"))?;
        if after.is_empty() {
            return Ok(Duration::from_millis(total));
        }
        rest = after;
    }
}

/// The same, longer than nothing.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("`{text}` must be longer than 0")),
        duration => Ok(duration),
    }
}

/// The same, at least `least`, which is written as `shown`.
pub(super) fn duration_from(text: &str, least: Duration, shown: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration >= least { Ok(duration) } else { Err(format!("`{text}` must be at least {shown}")) }
}

/// The same in milliseconds, as the engine counts.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("durations are at most 100 years")
}

/// Reads `64KiB`, `5GiB`, `10MB` or `123`: bytes, at least 1.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let size = number(text).ok().filter(|size| size.fract() == 0.0 && (1.0..=SIZE_MAX).contains(size));
    let size = size.ok_or_else(|| format!("`{text}` is no size; write for example 64KiB, 5GiB or 10MB"))?;
    usize::try_from(size as u64).map_err(|_| format!("`{text}` exceeds what this machine can address"))
}

/// Reads a finite number; a suffix of sizes multiplies it.
pub(super) fn number(text: &str) -> Result<f64, String> {
    let suffix = SIZE_SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (digits, factor) = match suffix {
        Some((suffix, factor)) => (text.strip_suffix(suffix).unwrap_or(text).trim_end(), *factor),
        None => (text, 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|number| number * factor);
    number.filter(|number| number.is_finite()).ok_or_else(|| format!("`{text}` is no finite number"))
}

/// The same, at least 0.
pub(super) fn magnitude(text: &str) -> Result<f64, String> {
    let number = number(text)?;
    if number >= 0.0 { Ok(number) } else { Err(format!("`{text}` must not be below 0")) }
}

/// Reads `10%` or `0.1`: a share, at least 0; more than the whole is allowed.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (digits, divisor) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits.trim_end(), 100.0));
    let share = digits.parse::<f64>().ok().map(|number| number / divisor);
    share
        .filter(|share| share.is_finite() && *share >= 0.0)
        .ok_or_else(|| format!("`{text}` is no share; write for example 10% or 0.1"))
}

/// The same, more than nothing and at most the whole.
pub(super) fn fraction(text: &str) -> Result<f64, String> {
    let share = share(text)?;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err(format!("`{text}` must be above 0 and at most 1"))
    }
}

/// Reads a whole number, 0 included.
pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number from 0 to {}", u32::MAX))
}

/// Reads a whole number, at least 1.
pub(super) fn positive_count(text: &str) -> Result<u32, String> {
    match count(text)? {
        0 => Err(format!("`{text}` must be at least 1")),
        count => Ok(count),
    }
}

/// Cuts digits and a unit off `text`.
fn split_duration(text: &str) -> (&str, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit);
    (number, unit, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        read: impl Fn(&str) -> Result<T, String>,
        good: &[(&str, T)],
        bad: &[&str],
    ) {
        for (text, expected) in good {
            assert_eq!(read(text).as_ref(), Ok(expected), "{text}");
        }
        for text in bad {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_in_prometheus() {
        check(
            |text| duration(text).map(|duration| duration.as_millis()),
            &[
                ("0", 0),
                ("0s", 0),
                ("500ms", 500),
                ("30s", 30_000),
                ("5m", 300_000),
                ("1h30m", 5_400_000),
                ("7d", 604_800_000),
                ("2w", 1_209_600_000),
                ("1m500ms", 60_500),
                ("100y", 3_153_600_000_000),
            ],
            &[
                "",
                "30",
                "s",
                "-5m",
                "1.5h",
                "5 m",
                "30m1h",
                "1h1h",
                "5µs",
                "1hm",
                "101y",
                "1h99999999999999999999s",
            ],
        );
        assert!(positive_duration("0").is_err());
        assert_eq!(ms(Duration::from_secs(2)), 2000);
    }

    #[test]
    fn sizes_are_whole_bytes() {
        check(
            bytes,
            &[
                ("1", 1),
                ("123", 123),
                ("64KiB", 65_536),
                ("5GiB", 5 << 30),
                ("10MB", 10_000_000),
                ("1.5KiB", 1536),
                ("2 MiB", 2 << 20),
                ("7B", 7),
            ],
            &["", "0", "-1", "0.5", "KiB", "1XB", "inf", "nan", "1e30", "5%"],
        );
    }

    #[test]
    fn numbers_may_have_a_size_suffix() {
        check(
            number,
            &[("-3", -3.0), ("1e6", 1e6), ("5GiB", 5_368_709_120.0), ("0.5kB", 500.0)],
            &["x", "inf", "NaN", ""],
        );
        check(magnitude, &[("0", 0.0), ("1KiB", 1024.0)], &["-1", "-1KiB"]);
    }

    #[test]
    fn shares_are_percent_or_plain() {
        check(
            share,
            &[("10%", 0.1), ("0.1", 0.1), ("0", 0.0), ("250 %", 2.5)],
            &["-1%", "x%", "%", "inf", "nan"],
        );
        check(fraction, &[("60%", 0.6), ("1", 1.0)], &["0", "1.1", "101%"]);
    }

    #[test]
    fn counts_are_whole() {
        check(count, &[("0", 0), ("4294967295", u32::MAX)], &["-1", "1.5", "1e3", "", "4294967296"]);
        check(positive_count, &[("1", 1)], &["0"]);
    }
}
