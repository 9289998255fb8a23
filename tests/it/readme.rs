//! README says what is so: its tables are compared with the program's own.

use promantis::edge::telemetry::TABLE;

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
fn every_metric_of_the_table_is_exposed_and_no_other() {
    let page = promantis::edge::telemetry::Metrics::new().render();
    let mut exposed: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    exposed.sort_unstable();
    let mut described: Vec<_> = TABLE
        .iter()
        .map(|metric| format!("{} {}", metric.name.trim_end_matches("_total"), metric.kind))
        .collect();
    described.sort_unstable();
    assert_eq!(exposed, described);
}
