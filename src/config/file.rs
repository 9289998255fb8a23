//! What users may write: every key, its default as it would be written, and what it means.
//!
//! The reader takes known keys and defaults from [`KEYS`], and the reference is printed from it, so the two cannot
//! disagree.

/// One key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands: `monitors[].window.trigger`.
    pub path: &'static str,
    /// Its default as one would write it. Empty: there is none, and leaving it out means what the meaning says.
    pub default: &'static str,
    /// What it does, its edge values, and who should change it.
    pub meaning: &'static str,
}

macro_rules! keys {
    ($($path:literal $default:literal $meaning:literal;)*) => {
        /// Every key, in the order in which it is explained.
        pub const KEYS: &[Key] = &[$(Key { path: $path, default: $default, meaning: $meaning }),*];
    };
}

keys! {
    "listen" "127.0.0.1:9900" "Address and port to listen on. Port 0 takes any free one. Nothing but loopback is reachable until this is changed.";

    "remote_write[].url" "" "Required. Where derived series are posted: `http://HOST[:PORT]/PATH`. Credentials do not belong here. Without any target, derived series go nowhere and are not kept; the page shows the last judgements.";
    "remote_write[].name" "" "Value of the label `target` of our own metrics, 1 to 255 characters, unique. What waits for a target waits for this name, whatever its URL is. Left out: host, port and path of the URL; another URL is another target then, a start drops what waits for the old one, and a reload is refused.";
    "remote_write[].timeout" "30s" "How long one request may take. More than 0.";
    "remote_write[].max_sample_age" "55m" "Older samples are dropped and counted instead of sent: a Prometheus without an out-of-order window refuses what is older than an hour. `0` sends them whatever their age.";
    "remote_write[].max_samples_per_send" "10000" "Samples in one request. At least 1.";
    "remote_write[].protocol" "1.0" "Version of remote write: `1.0`, which every receiver takes, or `2.0`, which is shorter before compression and says that series are gauges. A target that turns out not to speak 2.0 is sent 1.0 from then on, until its entry changes or promantis starts anew.";
    "remote_write[].min_backoff" "30ms" "First pause before a retry; each further one is twice as long. More than 0.";
    "remote_write[].max_backoff" "5s" "Longest pause before a retry. At least `min_backoff`.";
    "remote_write[].headers" "" "Headers to send along, such as `X-Scope-OrgID: tenant`. Those that the protocol sets are refused. Left out: none.";
    "remote_write[].basic_auth.username" "" "Required with `basic_auth`. Without colon.";
    "remote_write[].basic_auth.password_file" "" "File with the password; a relative path starts at the configuration file. Either this or `password_env`.";
    "remote_write[].basic_auth.password_env" "" "Environment variable with the password. Either this or `password_file`.";
    "remote_write[].bearer_token_file" "" "File with a bearer token; a relative path starts at the configuration file. Excludes `bearer_token_env` and `basic_auth`.";
    "remote_write[].bearer_token_env" "" "Environment variable with a bearer token. Excludes `bearer_token_file` and `basic_auth`.";
    "remote_write[].when_full" "drop_oldest" "When the journal is full of what this target has not taken: `drop_oldest` drops and counts the oldest that waits for it, `hold_back` answers input with 503 until it has taken enough.";

    "forward[].url" "" "Required. Where accepted requests are passed on, byte for byte: `http://HOST[:PORT]/PATH`. Credentials do not belong here.";
    "forward[].name" "" "Value of the label `target` of our own metrics, 1 to 255 characters, unique among `remote_write` and `forward`. Left out: as for `remote_write`.";
    "forward[].timeout" "30s" "How long one request may take. More than 0.";
    "forward[].min_backoff" "30ms" "First pause before a retry; each further one is twice as long. More than 0.";
    "forward[].max_backoff" "5s" "Longest pause before a retry. At least `min_backoff`.";
    "forward[].headers" "" "Headers to send along, such as `X-Scope-OrgID: tenant`. Those that the protocol sets are refused. Left out: none.";
    "forward[].basic_auth.username" "" "Required with `basic_auth`. Without colon.";
    "forward[].basic_auth.password_file" "" "File with the password; a relative path starts at the configuration file. Either this or `password_env`.";
    "forward[].basic_auth.password_env" "" "Environment variable with the password. Either this or `password_file`.";
    "forward[].bearer_token_file" "" "File with a bearer token; a relative path starts at the configuration file. Excludes `bearer_token_env` and `basic_auth`.";
    "forward[].bearer_token_env" "" "Environment variable with a bearer token. Excludes `bearer_token_file` and `basic_auth`.";
    "forward[].when_full" "hold_back" "As for `remote_write`; the default keeps what nobody else has.";

    "history.url" "" "Base address of a Prometheus, Mimir or VictoriaMetrics that has the samples, without `/api/v1`: `http://HOST[:PORT][/PREFIX]`. At the start it is asked for what came while promantis was away. Left out: the environment variable `PROMETHEUS_URL`; without that, gaps stay.";
    "history.timeout" "30s" "How long one query may take. More than 0.";
    "history.max_gap" "1h" "How much of a gap is filled; of a longer one, the newest part. More than 0.";
    "history.labels" "" "Labels that series come with and the address does not know of, such as `cluster: eu`: the `external_labels` of that Prometheus, which it adds where it writes and not where it is asked. A fetched series that lacks one gets it; `__replica__` may stand here and is passed over. Left out: none.";
    "history.headers" "" "Headers to send along, such as `X-Scope-OrgID: tenant`. Those that the client sets are refused. Left out: none.";
    "history.basic_auth.username" "" "Required with `basic_auth`. Without colon.";
    "history.basic_auth.password_file" "" "File with the password; a relative path starts at the configuration file. Either this or `password_env`.";
    "history.basic_auth.password_env" "" "Environment variable with the password. Either this or `password_file`.";
    "history.bearer_token_file" "" "File with a bearer token; a relative path starts at the configuration file. Excludes `bearer_token_env` and `basic_auth`.";
    "history.bearer_token_env" "" "Environment variable with a bearer token. Excludes `bearer_token_file` and `basic_auth`.";

    "journal.path" "data" "Folder of what was accepted, derived and learned; only one process may use it. The default lies below the working directory, a relative path that is written below the configuration file's folder. `memory` keeps all of it in memory: it ends with the process. A folder of that name is `./memory`.";
    "journal.max_bytes" "2GiB" "Bytes of the journal. When all of it, or all that the disk has room for, still waits for someone, `when_full` of that target decides; where an engine lags, requests are answered 503. At least 64MiB and twice `limits.decoded_bytes`.";
    "journal.max_age" "24h" "How long the journal keeps what a target has not taken. Then it is dropped and counted where `when_full` of that target is `drop_oldest`; where it is `hold_back`, it is kept as long as there is room. At least 1m.";
    "journal.sync" "batch" "What an acknowledgement outlasts. `batch`: a loss of power, many requests share one sync. `interval`: a crash of the process; a loss of power costs a second at most. `never`: a crash of the process; the rest is up to the system.";
    "journal.snapshot_interval" "5m" "How often what was learned is saved, sooner where a third of `journal.max_bytes` came since; what came after is judged again at the next start. At least 100ms.";

    "limits.series_max" "100000" "Monitored series at most. At least 1; further ones are counted and not judged.";
    "limits.new_series_per_second" "1000" "Monitored series admitted per second, a minute's worth at once. At least 1; a flood waits its turn.";
    "limits.idle_eviction" "1h" "A series without a sample for so long is forgotten; after a quarter of it, its derived series end with a stale marker. More than 0.";
    "limits.body_bytes" "8MiB" "Bytes of one request as sent, compressed. Larger ones are answered 400.";
    "limits.decoded_bytes" "32MiB" "Bytes of one request once decompressed. What declares more is answered 400 before any of it is allocated.";
    "limits.in_flight_bytes" "128MiB" "Bytes of all requests that are being received and decoded; beyond it they are answered 503. At least `body_bytes` and `decoded_bytes` together.";
    "limits.connections" "512" "Connections open at the same time. At least 1; further ones are closed at once.";
    "limits.connections_per_ip" "64" "The same for one address, loopback included. `0` sets no limit. Raise it where many senders share an address.";
    "limits.header_timeout" "5s" "How long the head of a request may take. More than 0.";
    "limits.body_timeout" "10s" "How long the body of a request may take. More than 0.";
    "limits.idle_timeout" "60s" "How long a connection may wait for its next request. More than 0; longer than the scrape interval saves connections.";

    "monitors[].name" "default" "Value of the label `monitor` on everything written back, 1 to 64 characters, unique.";
    "monitors[].select" "{}" "Which series: an instant vector selector of PromQL. `{}` takes every series.";
    "monitors[].transform" "auto" "What is observed: `auto` makes rates of counters, `value` takes the value as it is, `rate` the increase per second.";
    "monitors[].profile" "fast" "A named set of detectors: `fast` is zscore, rolling_zscore, mad, iqr and baseline. Excludes `detectors`.";
    "monitors[].detectors" "" "The detectors by name: zscore, rolling_zscore, mad, iqr, baseline, static. Excludes `profile`. May be empty only beside `static`.";
    "monitors[].static.upper" "" "Above it is anomalous, whatever was learned. Sizes may be written: `5GiB`. Left out: no such limit.";
    "monitors[].static.lower" "" "Below it is anomalous, whatever was learned. Below `upper`. Left out: no such limit.";
    "monitors[].direction" "both" "Which deviations count: `both`, `above` or `below`.";
    "monitors[].min_deviation.absolute" "0" "A smaller distance from the expected value is never anomalous, in units of the signal. `0` asks for none.";
    "monitors[].min_deviation.relative" "0" "The same as a share of the expected value: `10%`. `0` asks for none.";
    "monitors[].warm_up" "60" "Observations to see before a flag may be raised. `0` judges as soon as a detector can.";
    "monitors[].window.trigger" "5m" "Window in which samples outside the band are counted. `0`: each sample decides alone.";
    "monitors[].window.fraction" "0.6" "Share of the window's samples that must be outside. Above 0, at most 1; `60%` may be written.";
    "monitors[].window.recovery" "5m" "How long all samples must be inside before the flag falls. `0`: the first one inside is enough.";
    "monitors[].accept_after" "2h" "After being flagged for so long, the level is taken for the new normal. More than 0; `100y` is never.";
    "monitors[].forecast.method" "linear" "How to look ahead. Only `linear` is available.";
    "monitors[].forecast.horizons" "[1h]" "How far ahead, 1 to 16 durations, each once. The label `horizon` is what is written here.";
    "monitors[].forecast.upper" "" "Crossing it is foretold. Sizes may be written. Left out: no such limit.";
    "monitors[].forecast.lower" "" "Crossing it is foretold. Below `upper`. Left out: no such limit.";
    "monitors[].emit" "[score, flag]" "What is written back: score, flag, direction, detectors, expected, forecast. At least one. Left out beside `forecast`: that, too.";
}

/// The default of the key at `path`, or empty text where it has none.
pub(super) fn default_of(path: &str) -> &'static str {
    KEYS.iter().find(|key| key.path == path).map_or("", |key| key.default)
}

/// Names that may stand directly below `section`, each once, in order of the table; the top level is empty text.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let below = if section.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = below.and_then(|below| below.split(['.', '[']).next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// All keys as a Markdown table of key, default and meaning.
pub fn reference() -> String {
    let mut page = String::from("| key | default | meaning |\n|---|---|---|\n");
    for Key { path, default, meaning } in KEYS {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        page.push_str(&format!("| `{path}` | {default} | {meaning} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_once_and_names_are_those_below_a_section() {
        let mut paths: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), KEYS.len());
        assert_eq!(
            names_in(""),
            ["listen", "remote_write", "forward", "history", "journal", "limits", "monitors"]
        );
        assert_eq!(names_in("monitors[].window"), ["trigger", "fraction", "recovery"]);
        assert_eq!(default_of("monitors[].window.trigger"), "5m");
    }

    #[test]
    fn the_reference_is_a_table_of_three_columns() {
        for line in reference().lines() {
            assert_eq!(line.matches('|').count(), 4, "{line}");
        }
        assert_eq!(reference().lines().count(), KEYS.len() + 2);
    }
}
