//! Stops under load: asked to end while its target is slow, a promantis ends in time and loses nothing.
//!
//! `PROMANTIS_STOPS` sets how often (5), `PROMANTIS_SEED` the moments.

use std::time::{Duration, Instant};

use super::ledger::Balance;
use super::random::Random;
use super::sink::Mood;
use super::stage::{Stage, journal};
use super::support::{alone, number, pass};

/// How long a stop may take.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn a_stop_under_load_ends_in_time_and_loses_nothing() {
    let _alone = alone();
    let mut random = Random::from_environment();
    let mut stage = Stage::set(&journal(), &mut random);
    let mut stops = Vec::new();
    for _ in 0..number("PROMANTIS_STOPS", 5) {
        stage.sink.turn(Mood::Slow);
        let (mut peer, _) = stage.start();
        pass(random.millis(50, 1500));
        let asked = Instant::now();
        peer.signal("TERM");
        assert!(peer.ended().success(), "{}", peer.log());
        stops.push(asked.elapsed());
    }
    let (last, _) = stage.start();
    let Balance { acknowledged, lost, duplicates, problems, .. } = stage.close(&last);
    println!(
        "{acknowledged} samples acknowledged, {lost} lost, {duplicates} duplicates; stopped after {stops:.1?}"
    );
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(acknowledged > 0, "nothing was tried");
    assert_eq!(lost, 0, "derived samples of acknowledged samples are lost");
    assert!(stops.iter().all(|stop| *stop <= GRACE), "stops took {stops:.1?}");
}
