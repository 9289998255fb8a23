//! Crashes: killed with −9 at random moments, a promantis loses nothing that it acknowledged.
//!
//! `PROMANTIS_KILLS` sets how often (500; 10,000 take about an hour), `PROMANTIS_SEED` the moments and moods.
//! `PROMANTIS_JOURNAL`, a value of the configuration key `journal`, tries another journal: with `{path: memory}`
//! the trial must fail, and one test here holds it to that.
//!
//! What a killed process has handed to the kernel survives it, synced or not. So this trial fails where an answer goes
//! out before the record is written, where a cursor moves before the target has answered, or where a replay
//! skips or repeats; that a sync is missing only a loss of power can show.

use std::fmt;
use std::time::{Duration, Instant};

use super::ledger::Balance;
use super::random::Random;
use super::sink::Mood;
use super::stage::{FORGETFUL, Stage, in_flight_max, journal};
use super::support::{alone, number, pass};

/// One life in so many is ended before it is ready.
const STILLBORN: u64 = 8;
/// In one life in so many the target goes away in the middle.
const CUT: u64 = 8;
/// From how many kills on the share of duplicates is a matter of the program rather than of chance.
const KILLS_MANY: usize = 100;

/// What came of a number of kills.
struct Report {
    kills: usize,
    took: Duration,
    /// From spawning to ready, shortest first.
    starts: Vec<Duration>,
    balance: Balance,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, took, starts, balance } = self;
        let rate = *kills as f64 / took.as_secs_f64();
        let Balance { acknowledged, owed, refused, lost, duplicates, disorder, .. } = balance;
        writeln!(f, "{kills} kills in {took:.1?}, {rate:.2} per second")?;
        writeln!(f, "{acknowledged} samples acknowledged, {owed} derived samples owed")?;
        writeln!(f, "{lost} lost, {refused} refused, {duplicates} duplicates, {disorder} out of order")?;
        let middle = starts.get(starts.len() / 2).copied().unwrap_or_default();
        let longest = starts.last().copied().unwrap_or_default();
        write!(f, "ready after {middle:.1?} in the middle, {longest:.1?} at most")
    }
}

/// Starts and kills a program with `journal` again and again, then lets it deliver what is left.
fn trial(journal: &str, kills: usize, mut random: Random) -> Report {
    let begun = Instant::now();
    let mut stage = Stage::set(journal, &mut random);
    let mut starts = Vec::new();
    for _ in 0..kills {
        // Nobody runs now: between the moods of one life only going away is tried.
        let mood = Mood::drawn(&mut random);
        stage.sink.turn(if stage.is_behind() { Mood::Up } else { mood });
        if random.below(STILLBORN) == 0 {
            let _killed = stage.spawn();
            pass(random.millis(0, 30));
        } else {
            let (_killed, start) = stage.start();
            starts.push(start);
            live(&mut stage, &mut random);
        }
    }
    let took = begun.elapsed();
    let (last, start) = stage.start();
    starts.push(start);
    starts.sort();
    let report = Report { kills, took, starts, balance: stage.close(&last) };
    println!("{report}");
    report
}

/// A life from ready until just before its end.
fn live(stage: &mut Stage, random: &mut Random) {
    pass(random.millis(5, 200));
    if random.below(CUT) == 0 {
        stage.sink.turn(Mood::Away);
    }
    pass(random.millis(5, 200));
    // Half of all deaths are aimed at what comes after an answer and should have come before.
    if random.below(2) == 0 {
        stage.wait_for_acknowledgement();
    }
}

#[test]
fn crash_kill9_conservation() {
    let _alone = alone();
    let kills = number("PROMANTIS_KILLS", 500) as usize;
    let Balance { acknowledged, owed, lost, duplicates, disorder, problems, .. } =
        trial(&journal(), kills, Random::from_environment()).balance;
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(acknowledged > 0, "nothing was tried");
    assert_eq!(lost, 0, "derived samples of acknowledged samples are lost");
    assert_eq!(disorder, 0, "samples of a series came in another order");
    // A kill catches one request of each shard on its way, a target that goes away one more.
    assert!(
        duplicates <= 2 * kills * in_flight_max(),
        "{duplicates} duplicates are more than were in flight"
    );
    assert!(kills < KILLS_MANY || duplicates * 100 <= owed, "{duplicates} duplicates are more than 1 %");
}

#[test]
fn a_journal_that_forgets_is_found_out() {
    let _alone = alone();
    let report = trial(FORGETFUL, 8, Random::new(8));
    assert!(report.balance.lost > 0, "what was only in memory cannot have survived");
}
