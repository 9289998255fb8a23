//! The words that every floor speaks: labels, samples, hashes and batches of them.
//!
//! Knows nobody. Holds no I/O, no clock and no policy.

mod batch;
mod common;
mod hash;
mod kind;
mod labels;
mod sample;
mod seams;
mod source;

pub use batch::{Batch, FamilyMetadata, Series};
pub use common::{common_prefix, common_suffix};
pub use hash::{Begun, HashedAlready, STRIPE, SeriesHash};
pub use kind::MetricKind;
pub use labels::{Label, LabelRun, LabelRunBuf, METRIC_NAME, push_label};
pub use sample::{STALE_NAN_BITS, Sample, is_stale_marker, stale_marker};
pub use seams::{GAINED, Seams, Woven};
pub use source::{CLUSTER, REPLICA, Source, Sources};
