//! Engines that are saved and restored, or resharded, against those that live on.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use promantis::engine::derive::Derived;
use promantis::engine::detect::DetectorKind;
use promantis::engine::monitor::{
    Direction, Emit, ForecastSpec, Horizon, Monitor, Plan, Policy, SeriesLimits, StaticLimits,
    TransformChoice,
};
use promantis::engine::select::Matchers;
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::snapshot::{FORMAT, RestoreError};
use promantis::engine::{Counts, Engine, Shard};
use promantis::series::{Batch, FamilyMetadata, LabelRun, LabelRunBuf, MetricKind, Sample, stale_marker};

const MINUTE: i64 = 60_000;
const SECOND: i64 = 1000;

/// What an engine hands out, down to the bits. What was voted and decided is in what is derived.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Said {
    Derived(Box<[u8]>, i64, u64),
    Judged(u64, u32, bool),
    Ended(u64, i64),
}

/// Writes everything down.
#[derive(Default)]
struct Record(Vec<Said>);

impl Sink for Record {
    fn derived(&mut self, derived: &Derived<'_>) {
        let said = derived.series().map(|(run, it)| Said::Derived(run, it.timestamp, it.value.to_bits()));
        self.0.extend(said);
    }

    fn judged(&mut self, it: &Judgement<'_>) {
        self.0.push(Said::Judged(it.signal, it.observations, it.decided.is_some()));
    }

    fn ended(&mut self, signal: u64, timestamp: i64) {
        self.0.push(Said::Ended(signal, timestamp));
    }
}

fn monitor(name: &str, select: &str, detectors: &[DetectorKind]) -> Monitor {
    Monitor {
        name: name.into(),
        select: Matchers::parse(select).expect("the selector is valid"),
        transform: TransformChoice::Auto,
        detectors: detectors.to_vec(),
        static_limits: StaticLimits { upper: Some(80.0), lower: None },
        policy: Policy {
            direction: Direction::Both,
            min_deviation_absolute: 0.1,
            min_deviation_relative: 0.0,
            warm_up: 3,
            trigger_ms: 2 * MINUTE,
            fraction: 0.5,
            recovery_ms: MINUTE,
            accept_after_ms: 10 * MINUTE,
        },
        forecast: None,
        emit: Emit {
            score: true,
            flag: true,
            direction: true,
            detectors: true,
            expected: true,
            forecast: true,
        },
    }
}

/// One of three plans: they share a monitor, and differ in the others and in limits.
fn plan(which: usize) -> Arc<Plan> {
    static PLANS: LazyLock<[Arc<Plan>; 3]> = LazyLock::new(|| [0, 1, 2].map(make_plan));
    Arc::clone(&PLANS[which])
}

fn make_plan(which: usize) -> Arc<Plan> {
    let everything = monitor("all", r#"{__name__!="nobody"}"#, &DetectorKind::ALL);
    let mut ahead = monitor("ahead", r#"{__name__!="nobody", host=~"[a-c]"}"#, &[DetectorKind::Mad]);
    ahead.forecast = Some(ForecastSpec {
        horizons: vec![Horizon { ms: 10 * MINUTE, label: "10m".into() }],
        limits: StaticLimits { upper: Some(100.0), lower: Some(-5.0) },
    });
    let mut short = monitor("short", r#"{host="b"}"#, &[DetectorKind::ZScore, DetectorKind::Static]);
    short.policy.trigger_ms = 0;
    let (monitors, series_max) = match which {
        0 => (vec![everything, ahead], 8),
        1 => (vec![short, everything], 20),
        _ => (vec![ahead, short], 5),
    };
    let limits = SeriesLimits { series_max, new_series_per_second: 3, idle_eviction_ms: 8 * MINUTE };
    Arc::new(Plan { monitors: monitors.into_iter().map(Arc::new).collect(), limits })
}

fn run(number: usize) -> Box<[u8]> {
    let name = ["load", "jobs_total", "up", "nobody", "temperature"][number % 5];
    let host = ["a", "b", "c", "d"][number / 5 % 4];
    [("__name__", name), ("host", host), ("Zone", "eu")].into_iter().collect::<LabelRunBuf>().encode()
}

/// What happens to an engine, some time after what happened before.
#[derive(Clone, Debug)]
enum Event {
    /// Each series gets samples ten seconds apart.
    Samples(Vec<(usize, Vec<f64>)>),
    Family(&'static str, MetricKind),
    Tick,
    Plan(usize),
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (0..20_i32).prop_map(f64::from),
        4 => -1e3..1e3_f64,
        1 => Just(-0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(stale_marker()),
        1 => Just(1e200),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let series = (0..20_usize, prop::collection::vec(value(), 1..30));
    let family = prop::sample::select(vec!["jobs", "load", "temperature", "jobs_total"]);
    let kind = prop::sample::select(vec![MetricKind::Counter, MetricKind::Gauge]);
    prop_oneof![
        10 => prop::collection::vec(series, 1..6).prop_map(Event::Samples),
        1 => (family, kind).prop_map(|(family, kind)| Event::Family(family, kind)),
        4 => Just(Event::Tick),
        1 => (0..3_usize).prop_map(Event::Plan),
    ]
}

/// Events and the milliseconds that pass before each.
fn history() -> impl Strategy<Value = Vec<(i64, Event)>> {
    let pause = prop_oneof![6 => 0..MINUTE, 2 => 0..5 * MINUTE, 1 => 0..100 * MINUTE];
    prop::collection::vec((pause, event()), 1..40)
}

fn happen(engine: &mut Engine, now: i64, event: &Event, record: &mut Record) -> Counts {
    let mut batch = Batch::default();
    match event {
        Event::Samples(series) => {
            for (number, values) in series {
                let times = (0..).map(|step| now + step * 10 * SECOND);
                let samples: Vec<_> =
                    times.zip(values).map(|(timestamp, &value)| Sample { timestamp, value }).collect();
                batch.push(LabelRun::from_canonical(&run(*number)), MetricKind::Unknown, &samples);
            }
        }
        Event::Family(family, kind) => {
            batch.push_metadata(FamilyMetadata { family: (*family).into(), kind: *kind });
        }
        Event::Tick => return engine.tick(now, record),
        Event::Plan(which) => return engine.replace_plan(plan(*which), record),
    }
    engine.ingest(&batch, now, record)
}

fn saved(engine: &Engine) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    engine.save(&mut |block| blocks.push(block.to_vec()));
    blocks
}

/// Lets all of `history` happen from `now` on, and returns when it ended.
fn live(engine: &mut Engine, mut now: i64, history: &[(i64, Event)], record: &mut Record) -> i64 {
    for (pause, event) in history {
        now += pause;
        happen(engine, now, event, record);
    }
    now
}

/// Looks at every series: a tick looks at 16 slots at least, and there are no more than 20.
fn sweep(engine: &mut Engine, now: i64, record: &mut Record) {
    for _ in 0..2 {
        engine.tick(now, record);
    }
}

/// An engine that has seen most of what there is: flags, forecasts, free slots, ignored series, families.
fn experienced() -> Engine {
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, plan(0));
    let samples = |step: i64, value: f64| {
        Event::Samples((0..10).filter(|n| step < 5 || n % 4 > 0).map(|n| (n, vec![value; 3])).collect())
    };
    let mut history: Vec<_> = (0..90)
        .map(|step| (MINUTE, samples(step, (step % 3) as f64 + if step > 84 { 50.0 } else { 0.0 })))
        .collect();
    history.insert(40, (0, Event::Tick));
    history.insert(41, (0, Event::Family("load", MetricKind::Gauge)));
    live(&mut engine, 0, &history, &mut Record::default());
    sweep(&mut engine, 91 * MINUTE, &mut Record::default());
    engine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happened, an engine that is restored says and counts from then on what the saved one does.
    #[test]
    fn a_restored_engine_goes_on_as_the_saved_one(before in history(), after in history()) {
        let mut one = Engine::new(Shard { index: 0, count: 1 }, plan(0));
        let mut now = live(&mut one, 0, &before, &mut Record::default());
        let blocks = saved(&one);
        let mut other = Engine::restore(&blocks).expect("what was saved is read");
        prop_assert_eq!(saved(&other), blocks);
        for (pause, event) in &after {
            now += pause;
            let (mut heard, mut heard_of_other) = (Record::default(), Record::default());
            let counts = happen(&mut one, now, event, &mut heard);
            prop_assert_eq!(happen(&mut other, now, event, &mut heard_of_other), counts);
            prop_assert_eq!(heard_of_other.0, heard.0);
        }
        let figures = |engine: &Engine| (engine.series_count(), engine.ignored_count(), engine.flagged_count());
        prop_assert_eq!(figures(&other), figures(&one));
        prop_assert_eq!(saved(&other), saved(&one));
    }

    /// What is saved block by block while an engine goes on is what it knew when that began, and the engine says what
    /// it would have said. Another plan gives it up.
    #[test]
    fn an_engine_is_saved_while_it_goes_on(
        before in history(), during in history(), pauses in prop::collection::vec(0..3_usize, 40),
    ) {
        let mut one = Engine::new(Shard { index: 0, count: 1 }, plan(0));
        let mut now = live(&mut one, 0, &before, &mut Record::default());
        let whole = saved(&one);
        let mut other = Engine::restore(&whole).expect("what was saved is read");
        let mut blocks = Vec::new();
        one.begin_save(1);
        let mut given_up = false;
        for ((pause, event), fetched) in during.iter().zip(pauses) {
            now += pause;
            let (mut heard, mut heard_of_other) = (Record::default(), Record::default());
            given_up |= matches!(event, Event::Plan(_)) && one.saved_bytes().is_some();
            let counts = happen(&mut one, now, event, &mut heard);
            prop_assert_eq!(happen(&mut other, now, event, &mut heard_of_other), counts);
            prop_assert_eq!(heard_of_other.0, heard.0);
            blocks.extend((0..fetched).map_while(|_| one.next_saved()));
        }
        blocks.extend(std::iter::from_fn(|| one.next_saved()));
        prop_assert_eq!(one.saved_bytes(), None);
        match Engine::restore(&blocks) {
            Ok(restored) => prop_assert_eq!(saved(&restored), whole),
            Err(error) => prop_assert!(given_up, "{}", error),
        }
        prop_assert_eq!(saved(&other), saved(&one));
    }

    /// Engines that took over the series of others say together what those would have said, for every series
    /// that they know.
    #[test]
    fn resharded_engines_go_on_as_those_before(
        before in history(), after in history(), shards in 1..4_usize, later in 1..5_usize,
    ) {
        let unlimited = |events: &[(i64, Event)]| -> Vec<(i64, Event)> {
            events.iter().filter(|(_, event)| !matches!(event, Event::Plan(_))).cloned().collect()
        };
        let mut wide = Plan::clone(&plan(0));
        wide.limits = SeriesLimits { series_max: 1000, new_series_per_second: 1000, ..wide.limits };
        let wide = Arc::new(wide);
        let make = |index| Engine::new(Shard { index, count: shards }, Arc::clone(&wide));
        let (before, after) = (unlimited(&before), unlimited(&after));
        let mut old: Vec<_> = (0..shards).map(make).collect();
        let ends: Vec<_> = old.iter_mut().map(|it| live(it, 0, &before, &mut Record::default())).collect();
        let copies = |engines: &[Engine]| -> Vec<_> {
            engines.iter().map(|it| Engine::restore(saved(it)).expect("what was saved is read")).collect()
        };
        let mut new = Engine::reshard(copies(&old), later);
        prop_assert_eq!(new.len(), later);
        let again = Engine::reshard(copies(&old), later);
        prop_assert!(new.iter().zip(&again).all(|(one, other)| saved(one) == saved(other)));

        // The sweep begins anew. Every event is followed by a whole one, so that where it stood does not matter.
        let said = |engines: &mut Vec<Engine>| {
            let mut record = Record::default();
            for engine in engines.iter_mut() {
                let mut now = ends[0];
                for (pause, event) in &after {
                    now += pause;
                    happen(engine, now, event, &mut record);
                    sweep(engine, now, &mut record);
                }
            }
            record.0.sort();
            let flagged: i64 = engines.iter().map(Engine::flagged_count).sum();
            (record.0, engines.iter().map(Engine::series_count).sum::<usize>(), flagged)
        };
        let series = |engines: &[Engine]| engines.iter().map(Engine::series_count).sum::<usize>();
        prop_assert_eq!(series(&new), series(&old));
        prop_assert_eq!(said(&mut new), said(&mut old));
    }

    /// Whatever becomes of its bytes, a snapshot is read or refused, and what is read can be lived with.
    #[test]
    fn a_damaged_snapshot_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        left_out in prop::option::of(0..6_usize),
        after in history(),
    ) {
        let mut blocks = EXPERIENCED.clone();
        for (at, byte) in flips {
            let block = at.index(blocks.len());
            let at = at.index(blocks[block].len());
            blocks[block][at] = byte;
        }
        if let Some(cut) = cut {
            let block = cut.index(blocks.len());
            let len = cut.index(blocks[block].len());
            blocks[block].truncate(len);
        }
        if let Some(block) = left_out.filter(|block| *block < blocks.len()) {
            blocks.remove(block);
        }
        if let Ok(mut engine) = Engine::restore(&blocks) {
            live(&mut engine, 91 * MINUTE, &after, &mut Record::default());
            saved(&engine);
        }
    }
}

static EXPERIENCED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| saved(&experienced()));

#[test]
fn the_experienced_engine_has_something_of_every_kind() {
    let engine = experienced();
    assert!(engine.series_count() > 0 && engine.ignored_count() > 0 && engine.flagged_count() > 0);
    let kinds: Vec<_> = EXPERIENCED.iter().map(|block| block[0]).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6]);
}

#[track_caller]
fn check(change: impl FnOnce(&mut Vec<Vec<u8>>), expected: &str) {
    let mut blocks = EXPERIENCED.clone();
    change(&mut blocks);
    let error = Engine::restore(&blocks).map(|_| ()).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_is_no_snapshot_is_refused_with_its_reason() {
    check(Vec::clear, "snapshot ends after 0 blocks, which is too early");
    check(|blocks| drop(blocks.pop()), "snapshot ends after 5 blocks, which is too early");
    check(|blocks| drop(blocks.remove(0)), "snapshot is damaged in block 1: families stand first");
    check(|blocks| blocks[3].clear(), "snapshot is damaged in block 4: it is empty");
    check(|blocks| blocks[3][0] = 77, "snapshot is damaged in block 4: its kind 77 is not known");
    check(|blocks| blocks.swap(1, 2), "snapshot is damaged in block 3: families stand behind ignored series");
    check(|blocks| drop(blocks.remove(1)), "snapshot has 0 families, its end says 1");
    check(|blocks| blocks[5].push(0), "snapshot is damaged in block 6: 1 bytes too many");
    check(|blocks| blocks[0][1] = FORMAT as u8 + 1, "snapshot has format 6, this version reads only 5");
    let twice = |blocks: &mut Vec<Vec<u8>>| blocks.insert(4, blocks[4].clone());
    check(twice, "snapshot is damaged in block 6: a series stands in two slots");
    let free = |blocks: &mut Vec<Vec<u8>>| drop(blocks.remove(3));
    check(free, "snapshot has 0 free slots, its end says 2");
    assert_eq!(Engine::restore([[]; 0]).map(|_| ()), Err(RestoreError::NoEnd { blocks: 0 }));
}

#[test]
fn labels_that_have_more_in_common_than_there_was_before_are_refused() {
    let why = "snapshot is damaged in block 5: labels have more in common than the ones before have";
    // Kind and slot of the first series, of which there is none before.
    check(|blocks| blocks[4][2] = 1, why);
    check(|blocks| blocks[4][3] = 1, why);
}

#[test]
fn a_series_that_is_not_of_the_shard_is_refused() {
    let mut engine = Engine::new(Shard { index: 0, count: 2 }, plan(1));
    let all = Event::Samples((0..20).map(|number| (number, vec![1.0])).collect());
    happen(&mut engine, 0, &all, &mut Record::default());
    assert!(engine.series_count() > 0);
    let mut blocks = saved(&engine);
    blocks[0][2] = 1; // The index of its shard.
    let error = Engine::restore(&blocks).map(|_| ()).expect_err("the series are of shard 0");
    assert!(error.to_string().ends_with("a series belongs to another shard or plan"), "{error}");
}

#[test]
fn many_series_are_many_blocks_none_of_them_long() {
    let mut wide = Plan::clone(&plan(0));
    wide.limits = SeriesLimits { series_max: 3000, new_series_per_second: 3000, ..wide.limits };
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::new(wide));
    let mut batch = Batch::default();
    for number in 0..5000 {
        let (number, name) = (number.to_string(), if number < 3000 { "load" } else { "nobody" });
        let value = number.repeat(75);
        let labels: LabelRunBuf = [("__name__", name), ("n", &number), ("v", &value)].into_iter().collect();
        let sample = Sample { timestamp: 0, value: 1.0 };
        batch.push(LabelRun::from_canonical(&labels.encode()), MetricKind::Unknown, &[sample]);
    }
    engine.ingest(&batch, 0, &mut Record::default());
    let blocks = saved(&engine);
    assert!(blocks.len() > 4 && blocks.iter().all(|block| block.len() < 520 * 1024), "{}", blocks.len());
    let restored = Engine::restore(&blocks).expect("what was saved is read");
    assert_eq!((restored.series_count(), restored.ignored_count()), (3000, 2000));
}

/// Else a damaged snapshot could ask for much memory with few bytes.
#[test]
fn labels_come_again_in_few_bytes_unless_they_are_long() {
    let bytes_of = |length: usize| {
        let mut engine = Engine::new(Shard { index: 0, count: 1 }, plan(0));
        let mut batch = Batch::default();
        for number in 0..5 {
            let (number, value) = (number.to_string(), "x".repeat(length));
            let labels = [("__name__", "load"), ("n", &*number), ("v", &*value)];
            let labels = labels.into_iter().collect::<LabelRunBuf>().encode();
            let sample = Sample { timestamp: 0, value: 1.0 };
            batch.push(LabelRun::from_canonical(&labels), MetricKind::Unknown, &[sample]);
        }
        engine.ingest(&batch, 0, &mut Record::default());
        assert_eq!(engine.series_count(), 5);
        let blocks = saved(&engine);
        assert_eq!(saved(&Engine::restore(&blocks).expect("what was saved is read")), blocks);
        blocks.iter().map(Vec::len).sum::<usize>()
    };
    assert!(bytes_of(4000) < 2 * 4000);
    assert!(bytes_of(5000) > 5 * 5000);
}

#[test]
fn engines_of_none_are_none_and_a_plan_that_differs_is_that_of_the_first() {
    assert!(Engine::reshard(Vec::new(), 3).is_empty());
    let all = Event::Samples((0..20).map(|number| (number, vec![1.0])).collect());
    let mut engines: Vec<_> =
        [0, 1].map(|index| Engine::new(Shard { index, count: 2 }, plan(1))).into_iter().collect();
    for engine in &mut engines {
        happen(engine, 0, &all, &mut Record::default());
    }
    let (first, second) = (engines[0].series_count(), engines[1].series_count());
    assert!(first > 0 && second > 0);
    engines[1].replace_plan(plan(2), &mut Record::default());
    let made = Engine::reshard(engines, 1);
    assert_eq!(made[0].series_count(), first + second);
    assert!(Engine::restore(saved(&made[0])).is_ok());
}

#[test]
fn a_plan_comes_back_as_it_was() {
    for which in 0..3 {
        let bytes = postcard::to_allocvec(&*plan(which)).expect("plans can be written");
        let read: Plan = postcard::from_bytes(&bytes).expect("plans can be read");
        assert_eq!(read, *plan(which));
        let up = run(1);
        let matching = |plan: &Plan| -> Vec<bool> {
            plan.monitors.iter().map(|it| it.select.matches(LabelRun::from_canonical(&up))).collect()
        };
        assert_eq!(matching(&read), matching(&plan(which)));
    }
    let selector = |text: &str| {
        let bytes = postcard::to_allocvec(text).expect("text can be written");
        postcard::from_bytes::<Matchers>(&bytes).is_ok()
    };
    assert!(selector("up{job=~'a.*'}") && !selector("up{job=~'a('}") && !selector(""));
}
