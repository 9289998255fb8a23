//! 47 bytes that declare gigabytes, from 64 connections at once.

use std::time::{Duration, Instant};

use super::client::{Connection, V1, post};
use super::figures::{Times, mib};
use super::victim::Victim;

const CONNECTIONS: usize = 64;
const SALVOS: usize = 500;
/// What each connection sends at its own pace.
const PACED: usize = 200;
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

/// The cheapest that the server answers: what it takes beside says how busy the machine is.
const CHEAP: &[u8] = b"GET /health HTTP/1.1\r\nHost: it\r\n\r\n";

/// Sends [`CHEAP`] and waits for the answer.
fn cheap(connection: &mut Connection, times: &mut Vec<Duration>) {
    let sent = Instant::now();
    connection.send(CHEAP);
    let reply = connection.reply().expect("an answer");
    times.push(sent.elapsed());
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// Each connection sends one after the other, in turn with what is cheap, with pauses so long that neither side is
/// ever busy: what is measured is the answer, and not the queue before it.
fn paced(connections: &mut [Connection], request: &[u8]) -> [Times; 2] {
    let one = |number: usize, connection: &mut Connection| {
        let (mut times, mut cheap_times) = (Vec::new(), Vec::new());
        for turn in 0..PACED {
            let pause = 5_000 + (number * 7919 + turn * 104_729) % 10_000;
            std::thread::park_timeout(Duration::from_micros(pause as u64));
            salvo(std::slice::from_mut(connection), request, &mut times);
            std::thread::park_timeout(Duration::from_micros(pause as u64));
            cheap(connection, &mut cheap_times);
        }
        [times, cheap_times]
    };
    let seen = std::thread::scope(|scope| {
        let clients = connections.iter_mut().enumerate();
        let clients: Vec<_> =
            clients.map(|(number, connection)| scope.spawn(move || one(number, connection))).collect();
        clients.into_iter().map(|client| client.join().expect("no client panics")).collect::<Vec<_>>()
    });
    [0, 1].map(|kind| Times::new(seen.iter().flat_map(|both| &both[kind]).copied().collect()))
}

/// How long an answer may take, of ninety-nine in a hundred; on a machine that is busy, twice as long as what is cheap.
const P99_MAX: Duration = Duration::from_millis(1);
/// How often that is measured at most.
const ROUNDS: u32 = 4;

#[test]
fn attack_declared_length() {
    let _alone = super::alone();
    let victim = Victim::promantis("limits: {connections_per_ip: 200}\n");
    let request = bomb();
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(victim.addr)).collect();
    let before = victim.peak();
    salvo(&mut connections, &request, &mut Vec::new());
    let spent = victim.cpu();
    let mut at_once = Vec::new();
    for _ in 0..SALVOS {
        salvo(&mut connections, &request, &mut at_once);
    }
    let cost = (victim.cpu() - spent) / u32::try_from(at_once.len()).expect("a few thousand");
    let at_once = Times::new(at_once);
    let growth = victim.peak() - before;
    println!("attack_declared_length: memory +{}", mib(growth));
    println!(
        "attack_declared_length: {CONNECTIONS} in flight at any time: {at_once}; {cost:.0?} of CPU each"
    );
    assert!(growth <= GROWTH_MAX, "memory grew by {}", mib(growth));
    for left in (0..ROUNDS).rev() {
        let [bombs, cheap] = paced(&mut connections, &request);
        println!(
            "attack_declared_length: {CONNECTIONS} clients, each at its pace: {bombs}; /health: {cheap}"
        );
        if bombs.p99() <= P99_MAX.max(cheap.p99() * 2) {
            return;
        }
        assert!(left > 0, "{bombs}; /health: {cheap}");
    }
}
