//! Remote-write requests into batches.
