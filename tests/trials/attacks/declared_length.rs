//! 47 bytes that declare gigabytes, from 64 connections at once.

use std::time::{Duration, Instant};

use super::client::{Connection, V1, post};
use super::figures::{Times, mib};
use super::victim::Victim;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 500;
/// Memory that it may cost, bytes.
const GROWTH_MAX: u64 = 8 << 20;

/// From the report of the flaw in other receivers, prometheus/client_golang issue 1917: 2.7 GB declared.
fn bomb() -> Vec<u8> {
    let hex =
        "97eab4890a170a085f5f6e616d655f5f120b746573745f6d6574726963121009000000000000f03f10d48fc9b2a333";
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    let body: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    assert_eq!(body.len(), 47);
    post(V1, &body)
}

/// Sends on all connections, then waits for all answers: so many are in flight at once.
fn salvo(connections: &mut [Connection], request: &[u8], times: &mut Vec<Duration>) {
    let mut sent = Vec::with_capacity(connections.len());
    for connection in connections.iter_mut() {
        sent.push(Instant::now());
        connection.send(request);
    }
    for (connection, sent) in connections.iter_mut().zip(sent) {
        let reply = connection.reply().expect("an answer");
        times.push(sent.elapsed());
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.body.contains("2704094487"), "{}", reply.body);
    }
}

#[test]
fn attack_declared_length() {
    let _alone = super::alone();
    let victim = Victim::promantis("limits: {connections_per_ip: 200}\n");
    let request = bomb();
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(victim.addr)).collect();
    let before = victim.peak();
    salvo(&mut connections, &request, &mut Vec::new());
    let mut one_at_once = Vec::new();
    for _ in 0..ROUNDS / 10 {
        for connection in &mut connections {
            salvo(std::slice::from_mut(connection), &request, &mut one_at_once);
        }
    }
    let mut all_at_once = Vec::new();
    for _ in 0..ROUNDS {
        salvo(&mut connections, &request, &mut all_at_once);
    }
    let (one, all) = (Times::new(one_at_once), Times::new(all_at_once));
    let growth = victim.peak() - before;
    println!("attack_declared_length: {CONNECTIONS} in flight: {all}; one in flight: {one}; memory +{}", mib(growth));
    assert!(growth <= GROWTH_MAX, "memory grew by {}", mib(growth));
    assert!(all.p99() <= Duration::from_millis(1), "{all}");
}
