//! Conformance of the receiver, as two public suites test it.
//!
//! Cases keep the names they have there. Where promantis differs on purpose the row says so: it is a tap on
//! the way to a database, so it takes samples in any order, and more than once, and leaves their refusal to
//! the database.

mod compliance;
mod write_handler;
mod write_handler_v1;

use crate::support::client::Reply;

/// Fails with `case` unless the answer is 204 without a body, or 400 with a readable message; `written` are
/// samples, histograms and exemplars.
fn assert_v2(case: &str, reply: &Reply, status: u16, written: [u64; 3]) {
    assert_eq!(reply.status, status, "{case}: {reply:?}");
    assert_eq!(reply.written(), written.map(Some), "{case}: {reply:?}");
    assert_eq!(reply.body.is_empty(), status == 204, "{case}: {reply:?}");
}

/// The same for remote write 1.0, whose answers never say what was written.
fn assert_v1(case: &str, reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{case}: {reply:?}");
    assert_eq!(reply.written(), [None; 3], "{case}: {reply:?}");
    assert_eq!(reply.body.is_empty(), status == 204, "{case}: {reply:?}");
}
