//! What the examples hold is valid, says the program that reads it.

use std::path::Path;
use std::process::Command;

use crate::support::stack::example;

/// Runs a program that checks files, in the directory of the examples.
#[track_caller]
fn check(program: &str, arguments: &[&str]) {
    let directory = example("");
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("start {program}: {error}; tests/run installs it"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}:\n{text}");
}

#[test]
fn example_of_prometheus_is_valid() {
    check("promtool", &["check", "config", "prometheus.yml"]);
    check("promtool", &["check", "rules", "rules.yml"]);
    check("amtool", &["check-config", "alertmanager.yml"]);
    check(env!("CARGO_BIN_EXE_promantis"), &["check", "promantis.yml"]);
}

#[test]
fn example_rules_fire_and_rest_as_their_tests_say() {
    check("promtool", &["test", "rules", "rules_test.yml"]);
}

#[test]
fn every_yaml_file_of_the_example_is_checked_and_explained() {
    let checked = ["alertmanager.yml", "prometheus.yml", "promantis.yml", "rules.yml", "rules_test.yml"];
    let readme = std::fs::read_to_string(example("README.md")).expect("the folder is explained");
    let files = std::fs::read_dir(example("")).expect("the folder exists");
    for file in files {
        let name = file.expect("it can be listed").file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|extension| extension == "yml") {
            assert!(checked.contains(&name.as_str()), "{name} is checked by no test");
            assert!(readme.contains(&format!("`{name}`")), "{name} is not in README.md");
        }
    }
}
