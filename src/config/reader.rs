//! A cursor over a YAML file that knows where it stands and collects every error.
//!
//! Reading never stops at an error: what cannot be read is reported with path and line, and its default is used so
//! that the rest can be read. Whoever starts a reading must look at the errors before using what was read.

use std::cell::RefCell;

use marked_yaml::types::MarkedScalarNode;
use marked_yaml::{LoadError, LoaderOptions, Marker, Node, parse_yaml_with_options};

use super::{ConfigError, file};

/// Bytes that a configuration file may have.
pub(super) const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Columns of indentation, list dashes included. Bounds how deep the YAML parser descends.
const INDENT_MAX: usize = 128;
/// Characters that a message may have.
const MESSAGE_CHARS_MAX: usize = 500;

/// Errors met so far, in the order of reading.
#[derive(Default, Debug)]
pub(super) struct Problems(RefCell<Vec<ConfigError>>);

impl Problems {
    /// All of them, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<ConfigError> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}

/// A place in the file, whether something is written there or not.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    node: Option<&'a Node>,
    path: String,
    line: usize,
    problems: &'a Problems,
}

/// Reads YAML into nodes. Refused: more than 1 MiB, deep nesting, anchors and aliases, tags, several documents, a key
/// that stands twice.
pub(super) fn load(text: &str) -> Result<Node, ConfigError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(error(0, format!("{} bytes exceed the limit of {FILE_BYTES_MAX}", text.len())));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_lines(text)?;
    let options = LoaderOptions::default().error_on_duplicate_keys(true).prevent_coercion(true);
    parse_yaml_with_options(0, text, options).map_err(|problem| explain(&problem))
}

impl<'a> Place<'a> {
    /// The top of the file.
    pub(super) fn top(node: &'a Node, problems: &'a Problems) -> Self {
        Self { node: Some(node), path: String::new(), line: 1, problems }
    }

    /// Whether something stands here; an empty value and `null` are nothing.
    pub(super) fn is_written(&self) -> bool {
        self.node.is_some()
    }

    /// Where this is, for other places to speak of.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Reports an error at this place.
    pub(super) fn fail(&self, message: impl Into<String>) {
        let problem =
            ConfigError { line: self.line, path: printable(&self.path), message: printable(&message.into()) };
        self.problems.0.borrow_mut().push(problem);
    }

    /// Reports a value that is no mapping, and keys that nobody knows.
    pub(super) fn check_keys(&self) {
        let known = file::names_in(&self.pattern());
        for (name, place) in self.entries() {
            if !known.contains(&&*name) {
                place.fail(unknown("field", &name, &known));
            }
        }
    }

    /// The place of `name` in this mapping.
    pub(super) fn get(&self, name: &str) -> Place<'a> {
        let mapping = self.node.and_then(Node::as_mapping);
        let node = mapping.and_then(|mapping| mapping.get_node(name));
        let key = mapping.and_then(|mapping| mapping.keys().find(|key| key.as_str() == name));
        self.below(self.path_of(name), node, key.map_or(self.line, |key| line_of(key.span().start())))
    }

    /// Names and places of this mapping, in the order of the file.
    pub(super) fn entries(&self) -> Vec<(String, Place<'a>)> {
        match self.node {
            None => Vec::new(),
            Some(Node::Mapping(mapping)) => {
                let place = |(key, node): (&MarkedScalarNode, &'a Node)| {
                    let line = line_of(key.span().start());
                    (key.as_str().to_owned(), self.below(self.path_of(key), Some(node), line))
                };
                mapping.iter().map(place).collect()
            }
            Some(_) => {
                self.fail("expected a mapping of `key: value`");
                Vec::new()
            }
        }
    }

    /// The places of this list; none if nothing is written.
    pub(super) fn items(&self) -> Vec<Place<'a>> {
        match self.node {
            None => Vec::new(),
            Some(Node::Sequence(list)) => {
                let place = |(index, node): (usize, &'a Node)| {
                    self.below(format!("{}[{index}]", self.path), Some(node), line_of(node.span().start()))
                };
                list.iter().enumerate().map(place).collect()
            }
            Some(_) => {
                self.fail("expected a list, such as `[one, two]`");
                Vec::new()
            }
        }
    }

    /// An item of this list that is not there: all its values are defaults.
    pub(super) fn unwritten_item(&self) -> Place<'a> {
        self.below(format!("{}[]", self.path), None, self.line)
    }

    /// Reads a list of values, or the default list.
    pub(super) fn list<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Vec<(Place<'a>, T)> {
        if !self.is_written() {
            let default = file::default_of(&self.pattern()).trim_matches(['[', ']']);
            let words = default.split(", ").filter(|word| !word.is_empty());
            return words.map(|word| (self.clone(), read(word).expect("defaults are valid"))).collect();
        }
        self.items().into_iter().filter_map(|item| item.required(&read).map(|value| (item, value))).collect()
    }

    /// Reads the value; its default if nothing is written or it is wrong. The key has a default.
    pub(super) fn read<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> T {
        let written = self.optional(&read);
        written.unwrap_or_else(|| read(file::default_of(&self.pattern())).expect("defaults are valid"))
    }

    /// Reads the value; `None` if nothing is written or it is wrong.
    pub(super) fn optional<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let scalar = self.node?.as_scalar().or_else(|| {
            self.fail("expected a single value");
            None
        });
        read(scalar?.as_str()).map_err(|message| self.fail(message)).ok()
    }

    /// The same, and reports where nothing is written.
    pub(super) fn required<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if !self.is_written() {
            self.fail("is required");
        }
        self.optional(read)
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn below(&self, path: String, node: Option<&'a Node>, line: usize) -> Place<'a> {
        let node = node.filter(|node| !node.as_scalar().is_some_and(is_null));
        Place { node, path, line, problems: self.problems }
    }

    /// The path as the table of keys has it: without the numbers of items.
    fn pattern(&self) -> String {
        let mut in_brackets = false;
        let keep = |c: &char| {
            in_brackets = *c == '[' || (in_brackets && *c != ']');
            !in_brackets || *c == '['
        };
        self.path.chars().filter(keep).collect()
    }
}

/// `unknown field `derection`; did you mean `direction`?`, or all that are known where none is near.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (distance(name, known), known)).min();
    match near {
        Some((distance, near)) if distance <= (name.chars().count() * 2 / 5).max(1) => {
            format!("unknown {what} `{name}`; did you mean `{near}`?")
        }
        _ => format!("unknown {what} `{name}`; known are {}", known.join(", ")),
    }
}

/// One line of at most 500 characters: keys and values stand in messages, and may hold anything.
fn printable(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| {
        let control = c.is_control().then(|| c.escape_default());
        let plain = (!c.is_control()).then_some(c);
        control.into_iter().flatten().chain(plain)
    });
    let mut line: String = escaped.take(MESSAGE_CHARS_MAX).collect();
    if text.chars().count() > MESSAGE_CHARS_MAX {
        line.push('…');
    }
    line
}

/// How many letters to insert, delete or replace (Levenshtein's distance), of the first 64 letters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().take(64).enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, known) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *known);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Plain `null` and nothing at all; the same in quotes is text.
fn is_null(scalar: &MarkedScalarNode) -> bool {
    scalar.may_coerce() && matches!(scalar.as_str(), "" | "~" | "null" | "Null" | "NULL")
}

/// Refuses what the parser would descend into too deep, and a second document, which it would not look at.
fn check_lines(text: &str) -> Result<(), ConfigError> {
    let mut started = false;
    for (index, line) in text.lines().enumerate() {
        let indent = line.find(|c: char| !matches!(c, ' ' | '\t' | '-' | '?' | ':')).unwrap_or(line.len());
        if indent > INDENT_MAX {
            return Err(error(index + 1, format!("more than {INDENT_MAX} columns of indentation")));
        }
        let boundary = ["---", "..."].iter().any(|mark| {
            line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        });
        if boundary && started {
            return Err(error(index + 1, "more than one document".to_owned()));
        }
        started |= boundary || !(line.trim_start().is_empty() || line.trim_start().starts_with(['#', '%']));
    }
    Ok(())
}

fn explain(problem: &LoadError) -> ConfigError {
    match problem {
        LoadError::TopLevelMustBeMapping(mark) | LoadError::TopLevelMustBeSequence(mark) => {
            error(mark.line(), "expected a mapping of `key: value`".to_owned())
        }
        LoadError::UnexpectedAnchor(mark) => error(mark.line(), "anchors and aliases are refused".to_owned()),
        LoadError::MappingKeyMustBeScalar(mark) => {
            error(mark.line(), "a key must be a single value".to_owned())
        }
        LoadError::UnexpectedTag(mark) => error(mark.line(), "tags are refused".to_owned()),
        LoadError::ScanError(mark, problem) => {
            error(mark.line(), format!("invalid YAML: {}", problem.info()))
        }
        LoadError::DuplicateKey(keys) => {
            let first = line_of(keys.prev_key.span().start());
            let message = format!("key `{}` stands here and in line {first}", keys.key.as_str());
            error(line_of(keys.key.span().start()), message)
        }
    }
}

fn error(line: usize, message: String) -> ConfigError {
    ConfigError { line, path: String::new(), message: printable(&message) }
}

/// The line of a mark, counted from 1.
fn line_of(mark: Option<&Marker>) -> usize {
    mark.map_or(1, Marker::line)
}
