//! Hot reload: the whole file is taken, or nothing of it.

use std::sync::{Arc, Mutex, PoisonError};

use super::Source;
use crate::config::Config;
use crate::edge::clock::unix_ms;
use crate::edge::journal::Rules;
use crate::edge::send::TargetSpec;
use crate::edge::shards::Surroundings;
use crate::engine::monitor::Plan;

/// Knows the configuration in force and where it came from.
#[derive(Debug)]
pub(super) struct Reloader {
    current: Mutex<Config>,
    source: Source,
    around: Surroundings,
    shards: u16,
}

impl Reloader {
    /// Remembers the configuration that the process started with.
    pub(super) fn new(config: Config, source: Source, around: Surroundings, shards: u16) -> Self {
        let reloader = Self { current: Mutex::new(config), source, around, shards };
        reloader.succeeded();
        reloader
    }

    /// Reads the file again and puts it in force.
    pub(super) fn reload(&self) -> Result<(), String> {
        // Held for the whole reload, so that two of them do not mix.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self
            .source
            .load()
            .map_err(|errors| errors.to_string())
            .and_then(|new| changeable(&current, &new).map(|()| new))
            .and_then(|new| moved(&current, &new).map_or(Ok(new), Err))
            .and_then(|new| self.put_in_force(&current, new));
        match taken {
            Ok(new) => {
                *current = new;
                self.succeeded();
                tracing::info!("configuration reloaded");
                Ok(())
            }
            Err(message) => {
                self.around.metrics.config_last_reload_successful.set(0);
                tracing::error!(error = %message, "configuration not reloaded, the old one stays in force");
                Err(message)
            }
        }
    }

    fn put_in_force(&self, old: &Config, new: Config) -> Result<Config, String> {
        let rules = |config: &Config| rules(config, self.shards);
        if rules(old) != rules(&new) {
            let journal = &self.around.journal;
            let appended = journal.append_rules(unix_ms(), Arc::new(rules(&new)));
            let sequence = appended.map_err(|full| full.to_string())?;
            journal.wait_settled(sequence).map_err(|unsettled| unsettled.to_string())?;
        }
        let specs = super::specs(&new);
        if super::specs(old) != specs {
            self.around.targets.replace(specs);
        }
        Ok(new)
    }

    fn succeeded(&self) {
        let metrics = &self.around.metrics;
        metrics.config_last_reload_successful.set(1);
        metrics.config_last_reload_success_timestamp.set(unix_ms() / 1000);
    }
}

/// What a configuration says of how records are judged.
pub(super) fn rules(config: &Config, shards: u16) -> Rules {
    let per_request = config.targets.iter().map(|target| target.max_samples_per_send).min();
    let samples_per_request = u32::try_from(per_request.unwrap_or(0)).unwrap_or(u32::MAX);
    Rules { plan: Plan::clone(&config.plan), shards, samples_per_request }
}

/// Says which settings differ that cannot change while the process runs.
fn changeable(old: &Config, new: &Config) -> Result<(), String> {
    let fixed = [
        ("listen", old.listen != new.listen),
        ("journal", old.journal != new.journal),
        ("limits of receiving", old.receive != new.receive),
    ];
    let changed: Vec<_> = fixed.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if changed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} cannot change while running; restart to change it", changed.join(", ")))
    }
}

/// Says which target has another address now and never had a name beside it: what waits for it would be dropped.
fn moved(old: &Config, new: &Config) -> Option<String> {
    let lists = [("remote_write", &old.targets, &new.targets), ("forward", &old.forward, &new.forward)];
    lists.into_iter().find_map(|(list, old, new)| {
        let (gone, come) = (nameless_beside(old, new)?, nameless_beside(new, old)?);
        Some(format!(
            "{list}: `{come}` comes and `{gone}` goes, with what waits for it; write `name: '{gone}'` beside the new \
             address to send it there, or any other name to drop it"
        ))
    })
}

/// The name of one of `targets` that was made of its address and is none of `others`.
fn nameless_beside<'a>(targets: &'a [TargetSpec], others: &[TargetSpec]) -> Option<&'a str> {
    let is_other = |one: &TargetSpec| others.iter().any(|other| other.name == one.name);
    let mut nameless = targets.iter().filter(|one| one.name == TargetSpec::name_at(&one.url));
    nameless.find(|one| !is_other(one)).map(|one| one.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_target_moves_only_under_a_name() {
        let parse = |text| config::parse(text).expect("the configuration is valid");
        let old = parse(
            "remote_write: [{url: 'http://a/w'}, {url: 'http://b/w', name: b}]\nforward: [{url: 'http://c/w'}]",
        );
        let check = |remote_write: &str, forward: &str, expected: &str| {
            let new = format!("{{remote_write: [{remote_write}], forward: [{forward}]}}");
            let said = moved(&old, &config::parse(&new).expect("it is valid")).unwrap_or_default();
            assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{new}: {said}");
        };
        let (a, b, c) = ("{url: 'http://a/w'}", "{url: 'http://b/w', name: b}", "{url: 'http://c/w'}");
        check(&format!("{a}, {b}"), c, "");
        let said =
            "remote_write: `d:80/w` comes and `a:80/w` goes, with what waits for it; write `name: 'a:80/w'`";
        check(&format!("{b}, {{url: 'http://d/w'}}"), c, said);
        check(a, "{url: 'http://c/v'}", "forward: `c:80/v` comes and `c:80/w` goes");
        check(&format!("{b}, {{url: 'http://d/w', name: 'a:80/w'}}"), c, "");
        check(&format!("{b}, {{url: 'http://d/w', name: d}}"), c, "");
        check(&format!("{a}, {{url: 'http://d/w', name: b}}"), c, "");
        check(b, c, "");
        check(&format!("{a}, {{url: 'http://d/w'}}"), "", "");
    }

    #[test]
    fn what_cannot_change_is_named() {
        let parse = |text| config::parse(text).expect("the configuration is valid");
        let old = parse("");
        let check = |text| changeable(&old, &parse(text)).err().unwrap_or_default();
        assert_eq!(check("monitors: [{name: other}]"), "");
        assert_eq!(check("remote_write: [{url: 'http://localhost/'}]"), "");
        assert!(check("listen: 127.0.0.1:1").starts_with("listen cannot change"));
        assert!(check("journal: {max_bytes: 300MiB}").starts_with("journal cannot change"));
        assert!(
            check("{listen: 127.0.0.1:1, limits: {connections: 9}}")
                .starts_with("listen, limits of receiving")
        );
    }
}
