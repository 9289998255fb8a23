//! What our clients may say of a request that failed: causes, the begin of an answer, and no secrets.

use hyper::Uri;
use hyper::header::HeaderName;

use super::send::spec::Secret;

/// Bytes of an answer's body that are shown.
const EXCERPT_BYTES_MAX: usize = 512;

/// The begin of `text` on one line: 512 bytes at most, before what is unprintable is escaped.
pub(super) fn excerpt(text: &str) -> String {
    let end = text.floor_char_boundary(EXCERPT_BYTES_MAX);
    text[..end].trim().escape_debug().to_string()
}

/// An error and its causes, outermost first.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// `text` without the secrets that the other side may have echoed: values of `headers` and the query of `url`.
pub(super) fn redacted(text: &str, headers: &[(HeaderName, Secret)], url: &Uri) -> String {
    let values = headers.iter().map(|(_, secret)| secret.expose());
    // The other side may name the token alone, without the scheme before it.
    let secrets = values.flat_map(|value| [Some(value), value.split_once(' ').map(|(_, rest)| rest)]);
    let secrets = secrets.flatten().chain(url.query()).filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "<secret>"))
}

#[cfg(test)]
mod tests {
    use hyper::header::AUTHORIZATION;

    use super::*;

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt("out of\norder\u{1b}\n"), "out of\\norder\\u{1b}");
        assert_eq!(excerpt(&"ä".repeat(400)).len(), 512);
    }

    #[test]
    fn an_echo_shows_no_secret() {
        let url = Uri::from_static("http://localhost/?key=swordfish");
        let check = |value: &str, text: &str, expected: &str| {
            assert_eq!(redacted(text, &[(AUTHORIZATION, Secret::new(value))], &url), expected);
        };
        check("hunter2", "hunter2 to /?key=swordfish", "<secret> to /?<secret>");
        check("Bearer hunter2", "Bearer hunter2: hunter2 is unknown", "<secret>: <secret> is unknown");
    }
}
