//! The real program among real peers: Prometheus, Alertmanager, node exporter, vmagent, VictoriaMetrics.

mod alerts;
mod attacks;
mod demo;
mod examples;
mod feedback;
mod pairs;
mod reload;
mod stop;
mod versions;
mod victoria;
