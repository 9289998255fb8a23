//! The tree checks itself: floors, purity, and the form of files.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room under `src`, and the rooms it may import.
const FLOORS: &[(&str, &[&str])] = &[
    ("series", &[]),
    ("wire", &["series"]),
    ("engine", &["series"]),
    ("edge", &["series", "wire", "engine"]),
    ("config", &["series", "wire", "engine", "edge"]),
    ("app", &["series", "wire", "engine", "edge", "config"]),
    ("cli", &["series", "wire", "engine", "edge", "config", "app"]),
];

/// Rooms that know no clock, socket, file, thread or log, and what they would be known by.
const PURE: [&str; 3] = ["series", "wire", "engine"];
const IMPURE: [&str; 12] = [
    "std::time",
    "std::thread",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "tokio",
    "tracing",
    "println!",
    "RandomState",
    "hyper",
];

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be listed") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The lines of a file before its tests, without comments.
fn code_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("the file can be read");
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

/// Which room of `src` a file belongs to; `None` for the roots and for files of tests.
fn room(path: &Path) -> Option<&'static str> {
    let inner = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).ok()?;
    if inner.file_name().is_some_and(|name| name == "tests.rs") {
        return None;
    }
    let first = inner.components().next()?.as_os_str().to_str()?;
    let first = first.strip_suffix(".rs").unwrap_or(first);
    FLOORS.iter().map(|(room, _)| *room).find(|room| *room == first)
}

/// The rooms that `line`, standing in `room`, imports from above or beside.
fn upward_imports<'a>(room: &str, line: &'a str) -> Vec<&'a str> {
    let allowed = FLOORS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, rooms)| *rooms);
    let targets = line.split("crate::").skip(1).flat_map(|after| {
        let (open, rest) = after.strip_prefix('{').map_or((false, after), |rest| (true, rest));
        let parts = if open { rest.split(", ").collect() } else { vec![rest] };
        parts
            .into_iter()
            .map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
    });
    targets
        .filter(|target| FLOORS.iter().any(|(name, _)| name == target))
        .filter(|target| *target != room && !allowed.contains(target))
        .collect()
}

#[test]
fn an_upward_import_is_seen() {
    assert_eq!(upward_imports("engine", "use crate::edge::send::Targets;"), ["edge"]);
    assert_eq!(upward_imports("wire", "    crate::engine::Engine::new()"), ["engine"]);
    assert_eq!(upward_imports("series", "use crate::{wire::snappy, engine};"), ["wire", "engine"]);
    assert!(upward_imports("edge", "use crate::{wire::snappy, engine};").is_empty());
    assert!(upward_imports("engine", "pub(crate) use crate::series::Sample;").is_empty());
}

#[test]
fn imports_point_only_downwards() {
    let mut broken = Vec::new();
    for path in rust_files("src") {
        let Some(room) = room(&path) else { continue };
        for line in code_lines(&path) {
            if !upward_imports(room, &line).is_empty() {
                broken.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "imports that point upwards:\n{}", broken.join("\n"));
}

#[test]
fn pure_rooms_touch_nothing_of_the_world() {
    let mut broken = Vec::new();
    for path in rust_files("src") {
        if !room(&path).is_some_and(|room| PURE.contains(&room)) {
            continue;
        }
        for line in code_lines(&path) {
            if IMPURE.iter().any(|word| line.contains(word)) {
                broken.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "a pure room reaches out:\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_in_its_first_sentence_what_it_is() {
    for folder in ["src", "tests", "examples"] {
        for path in rust_files(folder) {
            let text = fs::read_to_string(&path).expect("the file can be read");
            let head: String = text
                .lines()
                .map_while(|line| line.strip_prefix("//!"))
                .take_while(|line| !line.trim().is_empty())
                .collect();
            assert!(head.contains('.') || head.contains(':'), "{}: no first sentence", path.display());
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    for folder in ["src", "tests", "examples"] {
        for path in rust_files(folder) {
            let text = fs::read_to_string(&path).expect("the file can be read");
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            let tables = path.ends_with("tests/it/conformance.rs");
            assert!(lines <= 500 || tables, "{}: {lines} lines", path.display());
        }
    }
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_skipped() {
    let here = Path::new("tests/it/tidy.rs");
    for path in ["src", "tests", "examples"].into_iter().flat_map(rust_files) {
        if path.ends_with(here) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file can be read");
        for word in ["TODO", "FIXME", "XXX", "#[ignore", "should_panic", "todo!(", "unimplemented!("] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}
