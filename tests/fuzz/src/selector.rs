//! Selectors: read the same when written again, and asked of a few series.

use promantis::engine::select::Matchers;
use promantis::series::{LabelRun, LabelRunBuf};

use crate::cost::bounded;

/// Checks a selector.
///
/// # Panics
/// Where something does not hold.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match bounded(|| Matchers::parse(text)) {
        Ok(matchers) => {
            assert_eq!(matchers.to_string(), text, "a selector is written as it was read");
            bounded(|| asked(&matchers));
        }
        Err(error) => {
            let position = 1..=text.chars().count() + 1;
            assert!(position.contains(&error.position), "{error} is not within the text");
        }
    }
}

/// Asks of series with no label, with one and with several.
fn asked(matchers: &Matchers) {
    let several = [("__name__", "up"), ("job", "api"), ("instance", "127.0.0.1:9090"), ("é", "ü\n")];
    for labels in [&[][..], &several[..1], &several] {
        let run = labels.iter().copied().collect::<LabelRunBuf>().encode();
        matchers.matches(LabelRun::from_canonical(&run));
    }
}
