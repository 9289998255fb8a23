//! Secrets, from files and from the environment, never from the configuration file itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::edge::send::spec::Secret;

/// Bytes that a secret may have.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Reads the secret that is the content of the file `path`, without white space around it.
pub(super) fn from_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("open `{shown}`: {error}"))?;
    let mut text = String::new();
    let read = file.take(SECRET_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| format!("read `{shown}`: {error}"))?;
    checked(&text).map_err(|problem| format!("secret in `{shown}` {problem}"))
}

/// Takes the secret from the environment variable `name`.
pub(super) fn from_environment(name: &str) -> Result<Secret, String> {
    let text =
        std::env::var(name).map_err(|_| format!("environment variable `{name}` is not set to text"))?;
    checked(&text).map_err(|problem| format!("secret in environment variable `{name}` {problem}"))
}

/// A secret that can stand in a header. Says what is wrong without showing any of it.
fn checked(text: &str) -> Result<Secret, String> {
    let text = text.trim();
    if text.is_empty() {
        Err("is empty".to_owned())
    } else if text.len() > SECRET_BYTES_MAX {
        Err(format!("exceeds the limit of {SECRET_BYTES_MAX} bytes"))
    } else if text.chars().any(char::is_control) {
        Err("has control characters".to_owned())
    } else {
        Ok(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: Result<&str, &str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        match (from_file(file.path()), expected) {
            (Ok(secret), expected) => assert_eq!(Ok(secret.expose()), expected),
            (Err(problem), expected) => {
                let expected = expected.expect_err(&problem);
                assert!(problem.ends_with(expected), "{problem}");
                assert!(!problem.contains("hunter2"), "{problem}");
            }
        }
    }

    #[test]
    fn a_file_holds_one_secret_and_white_space_around_it() {
        check("hunter2\n", Ok("hunter2"));
        check("  hun ter2\r\n", Ok("hun ter2"));
        check("", Err("is empty"));
        check("\n", Err("is empty"));
        check("hunter2\nx", Err("has control characters"));
        check(&"hunter2".repeat(20_000), Err("exceeds the limit of 65536 bytes"));
    }

    #[test]
    fn a_secret_that_is_not_there_is_an_error() {
        assert!(from_file(Path::new("/nowhere/secret")).unwrap_err().starts_with("open `/nowhere/secret`: "));
        let unset = from_environment("PROMANTIS_UNSET").unwrap_err();
        assert_eq!(unset, "environment variable `PROMANTIS_UNSET` is not set to text");
    }
}
