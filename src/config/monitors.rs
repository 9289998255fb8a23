//! Monitors, from what is written to what the engine takes.

use std::sync::Arc;

use super::reader::{Place, unknown};
use super::units;
use crate::engine::detect::DetectorKind;
use crate::engine::monitor::{
    Direction, Emit, ForecastSpec, Horizon, Monitor, Policy, StaticLimits, TransformChoice,
};
use crate::engine::select::Matchers;

/// Characters that a name may have.
const NAME_CHARS_MAX: usize = 64;
/// Horizons that one forecast may have.
const HORIZONS_MAX: usize = 16;

/// The detectors of `profile: fast`, beside static limits.
const FAST: [DetectorKind; 5] = [
    DetectorKind::ZScore,
    DetectorKind::RollingZScore,
    DetectorKind::Mad,
    DetectorKind::Iqr,
    DetectorKind::Baseline,
];

/// How many series are written back for each source series of `monitor`.
///
/// Of what it emits: score 1, flag 1, direction 1, detectors 1 each, expected 3 (value and band); forecast 3 per
/// horizon (value and band), and per limit of the forecast 1 for the time until it is crossed and 2 for whether it
/// is (confidence high and medium).
pub fn derived_per_series(monitor: &Monitor) -> usize {
    let emit = monitor.emit;
    let forecast = monitor.forecast.as_ref().filter(|_| emit.forecast).map_or(0, |forecast| {
        let limits =
            usize::from(forecast.limits.upper.is_some()) + usize::from(forecast.limits.lower.is_some());
        3 * forecast.horizons.len() + 3 * limits
    });
    usize::from(emit.score)
        + usize::from(emit.flag)
        + usize::from(emit.direction)
        + if emit.detectors { monitor.detectors.len() } else { 0 }
        + if emit.expected { 3 } else { 0 }
        + forecast
}

/// Reads all monitors; one over every series where none is written.
pub(super) fn read(list: &Place<'_>) -> Vec<Arc<Monitor>> {
    let mut places = list.items();
    if !list.is_written() {
        places.push(list.unwritten_item());
    } else if places.is_empty() {
        list.fail("names no monitor; leave it out for one over every series");
    }
    let mut monitors: Vec<Arc<Monitor>> = Vec::new();
    for place in &places {
        let monitor = monitor(place);
        if let Some(first) = monitors.iter().position(|known| known.name == monitor.name) {
            let path = places.get(first).map_or("another", Place::path);
            place.get("name").fail(format!("`{}` is the name of {path}, too", monitor.name));
        }
        monitors.push(Arc::new(monitor));
    }
    monitors
}

/// A name that can stand in a label: 1 to 64 characters, none of them a control character.
fn name(text: &str) -> Result<String, String> {
    name_within(text, NAME_CHARS_MAX)
}

/// The same of at most `chars_max` characters.
pub(super) fn name_within(text: &str, chars_max: usize) -> Result<String, String> {
    let chars = text.chars().count();
    if chars == 0 || chars > chars_max {
        Err(format!("a name has 1 to {chars_max} characters, not {chars}"))
    } else if text.chars().any(char::is_control) {
        Err("a name has no control characters".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn monitor(place: &Place<'_>) -> Monitor {
    let limited = place.get("static");
    place.check_keys();
    limited.check_keys();
    let static_limits = limits(&limited);
    let forecast = forecast(&place.get("forecast"));
    Monitor {
        name: place.get("name").read(name).into(),
        select: place.get("select").read(|text| Matchers::parse(text).map_err(|error| error.to_string())),
        transform: place.get("transform").read(|text| one_of("transform", text, &TRANSFORMS)),
        detectors: detectors(place, static_limits),
        static_limits,
        policy: policy(place),
        emit: emit(&place.get("emit"), forecast.is_some()),
        forecast,
    }
}

const TRANSFORMS: [(&str, TransformChoice); 3] =
    [("auto", TransformChoice::Auto), ("value", TransformChoice::Value), ("rate", TransformChoice::Rate)];

const DIRECTIONS: [(&str, Direction); 3] =
    [("both", Direction::Both), ("above", Direction::Above), ("below", Direction::Below)];

/// Upper and lower limit of `static` and of `forecast`; `upper` must stand above `lower`.
fn limits(place: &Place<'_>) -> StaticLimits {
    let limits = StaticLimits {
        upper: place.get("upper").optional(units::number),
        lower: place.get("lower").optional(units::number),
    };
    if let (Some(upper), Some(lower)) = (limits.upper, limits.lower)
        && upper <= lower
    {
        place.get("upper").fail(format!("{upper} must be above `lower` of {lower}"));
    }
    limits
}

/// The detectors in their own order; static limits bring their own.
fn detectors(place: &Place<'_>, limits: StaticLimits) -> Vec<DetectorKind> {
    let (profile, named) = (place.get("profile"), place.get("detectors"));
    let mut kinds = if named.is_written() {
        if profile.is_written() {
            profile.fail("excludes `detectors`; leave one of them out");
        }
        distinct(&named, |text| one_of("detector", text, &DetectorKind::ALL.map(|kind| (kind.name(), kind))))
    } else {
        profile.read(|text| one_of("profile", text, &[("fast", FAST)])).to_vec()
    };
    let limited = limits != StaticLimits::default();
    if kinds.contains(&DetectorKind::Static) && !limited {
        named.fail("`static` needs a limit in `static.upper` or `static.lower`");
    } else if limited && !kinds.contains(&DetectorKind::Static) {
        kinds.push(DetectorKind::Static);
    } else if kinds.is_empty() {
        named.fail("names no detector; only beside `static` it may be empty");
    }
    kinds.sort_unstable();
    kinds
}

fn policy(place: &Place<'_>) -> Policy {
    let (deviation, window) = (place.get("min_deviation"), place.get("window"));
    deviation.check_keys();
    window.check_keys();
    Policy {
        direction: place.get("direction").read(|text| one_of("direction", text, &DIRECTIONS)),
        min_deviation_absolute: deviation.get("absolute").read(units::magnitude),
        min_deviation_relative: deviation.get("relative").read(units::share),
        warm_up: place.get("warm_up").read(units::count),
        trigger_ms: units::ms(window.get("trigger").read(units::duration)),
        fraction: window.get("fraction").read(units::fraction),
        recovery_ms: units::ms(window.get("recovery").read(units::duration)),
        accept_after_ms: units::ms(place.get("accept_after").read(units::positive_duration)),
    }
}

fn forecast(place: &Place<'_>) -> Option<ForecastSpec> {
    place.check_keys();
    if !place.is_written() {
        return None;
    }
    place.get("method").read(|text| one_of("method", text, &[("linear", ())]));
    Some(ForecastSpec { horizons: horizons(&place.get("horizons")), limits: limits(place) })
}

/// Horizons, the nearest first.
fn horizons(place: &Place<'_>) -> Vec<Horizon> {
    let horizon = |text: &str| {
        let ms = units::ms(units::positive_duration(text)?);
        Ok(Horizon { ms, label: text.into() })
    };
    let written = place.list(horizon);
    if !(1..=HORIZONS_MAX).contains(&written.len()) {
        place.fail(format!("has 1 to {HORIZONS_MAX} horizons, not {}", written.len()));
    }
    let mut horizons: Vec<Horizon> = Vec::new();
    for (item, horizon) in written {
        match horizons.iter().find(|known| known.ms == horizon.ms) {
            Some(known) => item.fail(format!("`{}` is as far ahead as `{}`", horizon.label, known.label)),
            None => horizons.push(horizon),
        }
    }
    horizons.sort_by_key(|horizon| horizon.ms);
    horizons
}

/// One of the outputs, by name.
type Output = fn(&mut Emit) -> &mut bool;

const OUTPUTS: [(&str, Output); 6] = [
    ("score", |emit| &mut emit.score),
    ("flag", |emit| &mut emit.flag),
    ("direction", |emit| &mut emit.direction),
    ("detectors", |emit| &mut emit.detectors),
    ("expected", |emit| &mut emit.expected),
    ("forecast", |emit| &mut emit.forecast),
];

fn emit(place: &Place<'_>, forecasts: bool) -> Emit {
    let mut emit = Emit {
        score: false,
        flag: false,
        direction: false,
        detectors: false,
        expected: false,
        forecast: forecasts && !place.is_written(),
    };
    let written = place.list(|text| one_of("output", text, &OUTPUTS));
    if written.is_empty() {
        place.fail("names no output");
    }
    for (item, output) in written {
        if std::mem::replace(output(&mut emit), true) {
            item.fail("is named twice");
        }
    }
    if emit.forecast && !forecasts {
        place.fail("`forecast` needs horizons; add `forecast: {}` for the default one");
    }
    emit
}

/// The values of a list, each once.
fn distinct<T: PartialEq>(place: &Place<'_>, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
    let mut values = Vec::new();
    for (item, value) in place.list(read) {
        if values.contains(&value) {
            item.fail("is named twice");
        } else {
            values.push(value);
        }
    }
    values
}

/// The value that is called `text`.
pub(super) fn one_of<T: Copy>(what: &str, text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| unknown(what, text, &known.iter().map(|(name, _)| *name).collect::<Vec<_>>()))
}
