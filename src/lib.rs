//! promantis judges every sample on Prometheus's remote-write path.

pub mod series;

pub mod wire;

pub mod engine;

pub mod edge;

pub mod config;

pub mod app;
pub mod cli;
