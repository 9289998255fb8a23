//! README says what is so: its tables are compared with the program's own.

use promantis::edge::telemetry::{Description, TABLE};

/// What stands in README between `<!-- name -->` and `<!-- /name -->`.
fn block(name: &str) -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("README.md can be read");
    let start =
        readme.split(&format!("<!-- {name} -->\n")).nth(1).unwrap_or_else(|| panic!("README has no {name}"));
    start.split(&format!("<!-- /{name} -->")).next().unwrap_or_default().trim().to_owned()
}

fn compare(name: &str, truth: &str) {
    assert_eq!(block(name), truth.trim(), "README's block `{name}` should be:\n{truth}");
}

#[test]
fn readme_lists_every_metric_of_our_own() {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in TABLE {
        let labels = metric.labels.trim_end_matches(',').replace(',', ", ");
        table += &format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind, metric.help);
    }
    compare("metrics", &table);
}

#[test]
fn readme_lists_every_key_of_the_configuration() {
    compare("configuration", &promantis::config::reference());
}

#[test]
fn what_is_exposed_stands_in_the_table() {
    let page = promantis::edge::telemetry::Metrics::new().render();
    let exposed: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let typed = |metric: &Description| format!("{} {}", metric.name.trim_end_matches("_total"), metric.kind);
    for line in &exposed {
        assert!(TABLE.iter().any(|metric| typed(metric) == *line), "{line} is not in the table");
    }
    // A metric with labels is exposed once it counted something.
    for metric in TABLE.iter().filter(|metric| metric.labels.is_empty()) {
        assert!(exposed.contains(&typed(metric).as_str()), "{} is not exposed", metric.name);
    }
}

#[test]
fn the_configuration_that_readme_shows_is_valid() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("README.md can be read");
    let shown = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("README shows a configuration first");
    let config = promantis::config::parse(shown).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.plan.monitors.len(), 2);
}
