//! A thousand connections that send a byte a second, and one good client beside them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time;

use super::client::{Connection, now_ms, series, v1};
use super::figures::Times;
use super::victim::Victim;

/// Addresses that hold 50 connections each.
const ADDRESSES: u8 = 18;
const FROM_EACH: usize = 50;
/// Connections from one more address, of which the limit closes some at once.
const FROM_ONE: usize = 100;
const REAPED_WITHIN: Duration = Duration::from_secs(10);
/// How long the good client is measured without the others.
const QUIET: Duration = Duration::from_secs(8);
/// Time between two requests of the good client.
const PAUSE: Duration = Duration::from_millis(2);
/// Below this, schedulers are measured and not servers.
const NOISE: Duration = Duration::from_millis(1);

/// How often the good client is measured at most.
const ROUNDS: u32 = 4;

/// What half of them have sent when they begin to dawdle: a part of a head.
const HEAD: &[u8] = b"POST";
/// What the other half have sent: a head, and nothing of the body.
const BODY: &[u8] = b"POST /api/v1/write HTTP/1.1\r\nHost: it\r\nContent-Length: 100000\r\n\r\n";

/// What the good client saw.
struct Seen {
    quiet: Times,
    attacked: Times,
}

/// Posts every few milliseconds, first undisturbed, then until `over`. Says `go` in between.
fn good_client(addr: SocketAddr, go: impl FnOnce(), over: &AtomicBool) -> Seen {
    let mut connection = Connection::open(addr);
    let mut one = || {
        let host = |index: u32| series(&[("__name__", "load"), ("host", &index.to_string())], 1.0, now_ms());
        let request = v1((0..10).map(host).collect());
        std::thread::park_timeout(PAUSE);
        let start = Instant::now();
        let reply = connection.post(&request);
        assert_eq!(reply.status, 204, "{}", reply.body);
        start.elapsed()
    };
    let end = Instant::now() + QUIET;
    let quiet = std::iter::from_fn(|| (Instant::now() < end).then(&mut one)).collect();
    go();
    let attacked = std::iter::from_fn(|| (!over.load(Ordering::Relaxed)).then(&mut one)).collect();
    Seen { quiet: Times::new(quiet), attacked: Times::new(attacked) }
}

/// Sends `start` and then a byte a second. Returns how long the server bore it.
async fn dawdle(addr: SocketAddr, from: Ipv4Addr, start: &[u8]) -> Duration {
    let opened = Instant::now();
    // Whatever fails, the server has closed.
    let _ = dawdle_until_closed(addr, from, start).await;
    opened.elapsed()
}

async fn dawdle_until_closed(addr: SocketAddr, from: Ipv4Addr, start: &[u8]) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream: TcpStream = socket.connect(addr).await?;
    stream.write_all(start).await?;
    let mut answer = [0; 1024];
    loop {
        match time::timeout(Duration::from_secs(1), stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => drop(read?),
            Err(_) => stream.write_all(b"x").await?,
        }
    }
}

/// All of them, each a millisecond after the one before. Returns how long each was borne.
async fn attack(addr: SocketAddr) -> Vec<Duration> {
    let each = (0..ADDRESSES).flat_map(|last| [Ipv4Addr::new(127, 0, 1, last + 1); FROM_EACH]);
    let all = each.chain([Ipv4Addr::new(127, 0, 2, 1); FROM_ONE]);
    let (mut clients, mut turn) = (JoinSet::new(), time::interval(Duration::from_millis(1)));
    for (number, from) in all.enumerate() {
        turn.tick().await;
        let start = if number.is_multiple_of(2) { HEAD } else { BODY };
        clients.spawn(dawdle(addr, from, start));
    }
    clients.join_all().await
}

/// The attack on a fresh victim. All but the times of the good client are judged here.
fn round() -> Seen {
    let victim = Victim::promantis("limits: {connections: 1200}\n");
    let (go, gone) = std::sync::mpsc::channel();
    let over = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (seen, borne) = std::thread::scope(|scope| {
        let good = scope.spawn(|| good_client(victim.addr, move || go.send(()).expect("it waits"), &over));
        // Without a word the good client has failed, which joining it will tell.
        let borne = gone.recv().map(|()| runtime.block_on(attack(victim.addr))).unwrap_or_default();
        over.store(true, Ordering::Relaxed);
        (good.join().expect("the good client is served"), Times::new(borne))
    });
    println!("attack_slow_connections: borne {borne}");
    let metric =
        |reason: &str| victim.metric(&format!("promantis_connections_refused_total{{reason=\"{reason}\"}}"));
    let per_ip = FROM_ONE as f64 - 64.0;
    assert_eq!(metric("connections_per_ip_max"), per_ip, "refused for their address");
    assert_eq!(metric("connections_max"), 0.0, "the others are let in");
    assert!(borne.max() <= REAPED_WITHIN, "{borne}");
    seen
}

#[test]
fn attack_slow_connections() {
    let _alone = super::alone();
    for left in (0..ROUNDS).rev() {
        let Seen { quiet, attacked } = round();
        println!("attack_slow_connections: good client in quiet {quiet}; attacked {attacked}");
        if attacked.p99() <= (quiet.p99() * 2).max(NOISE) {
            return;
        }
        // What else the machine does in one half alone decides then.
        assert!(left > 0, "quiet {quiet}; attacked {attacked}");
    }
}
