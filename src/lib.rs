//! promantis judges every sample on Prometheus's remote-write path, and writes scores, flags and forecasts
//! back as plain series.
//!
//! # The map
//!
//! Four floors; imports point only downwards, and a test keeps it so.
//!
//! | floor | rooms | what it is |
//! |---|---|---|
//! | assembly | [`cli`], [`app`], [`config`] | knows everybody, known by nobody below |
//! | edge | [`edge`] | sockets, files, threads and the clock |
//! | pure | [`wire`], [`engine`] | bytes to samples; samples to judgement. They do not know each other |
//! | words | [`series`] | labels, samples, hashes, batches |
//!
//! # One sample's journey
//!
//! A request arrives in [`edge::serve`], which bounds how long and how much its peer may send.
//! [`edge::receive`] takes permits for its bytes, checks the size it declares before taking memory, and has
//! [`wire::decode`] walk it once: out comes a [`series::Batch`], without what was malformed, which is counted.
//! The body goes into the [`edge::journal`], a [`edge::log`] of records on a [`edge::disk`]; once that is durable the
//! sender hears 204.
//!
//! Each of [`edge::shards`] is a thread that follows the journal and whose [`edge::judge`] owns the
//! [`engine::Engine`] of its series: find the series by its hash, select monitors once, draw observations ([`engine::transform`]), score
//! them ([`engine::bank`], [`engine::detect`], [`engine::baseline`]), decide ([`engine::decide`]), learn, foresee
//! ([`engine::forecast`]), and derive what is to be written back ([`engine::derive`]). An engine depends on
//! batches and their arrival times alone: the same input gives the same output, byte for byte.
//!
//! Derived samples are spliced from the source's label bytes into a request ([`wire::encode`]) and put into the
//! journal, where [`edge::send`] reads them with a cursor for each target, and delivers them in order, whatever the
//! others do. The last judgements are kept in [`edge::recent`] for [`edge::api`] and its page.
//!
//! Now and then a shard saves what it knows in [`edge::snapshot`], a block between two records. A start is
//! [`edge::recovery`]: the newest snapshots, and the journal's records after them taken once more.
//!
//! # Using the library
//!
//! The engine runs without anything else: see `examples/judge.rs`. Requests are decoded and built without a
//! network: see `examples/remote_write.rs`. The whole program in process: see `examples/embed.rs`.

pub mod series;

pub mod wire;

pub mod engine;

pub mod edge;

pub mod config;

pub mod app;
pub mod cli;
