//! Configuration files: all errors at once, or a configuration that reads the same again.

use promantis::config::{ConfigErrors, derived_per_series, parse};

use crate::cost::bounded;

/// Checks a file.
///
/// # Panics
/// Where something does not hold.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match bounded(|| parse(text)) {
        Ok(config) => {
            let mut monitors = config.plan.monitors.iter();
            assert!(monitors.all(|monitor| derived_per_series(monitor) > 0), "a monitor derives something");
            assert_eq!(parse(text).as_ref(), Ok(&config), "the same text is the same configuration");
        }
        Err(errors) => are_sound(&errors, text),
    }
}

/// Each error stands in a line of its own and points into the file.
fn are_sound(errors: &ConfigErrors, text: &str) {
    assert!(!errors.errors.is_empty(), "what fails says why");
    assert!(errors.errors.is_sorted_by_key(|error| error.line), "errors are in the order of the file");
    let lines = text.split(['\n', '\r']).count();
    for error in &errors.errors {
        assert!(error.line <= lines, "line {} of {lines}", error.line);
        assert!(!error.message.is_empty());
    }
    assert_eq!(errors.to_string().lines().count(), errors.errors.len(), "{errors}");
}
