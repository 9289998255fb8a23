//! The files that a replay writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::Progress;
use crate::edge::replay::{Derived, Judged, Taker};
use crate::edge::send::Outgoing;
use crate::series::METRIC_NAME;
use crate::wire::prompb::v1::{Label, WriteRequest};
use crate::wire::snappy;

/// Bytes of a derived request after decompression: it is one of our own.
const DECODED_BYTES_MAX: usize = 1 << 30;

/// Why nothing can be written to a folder.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It has something in it.
    #[error("--out {}: the folder is not empty; give a new one", .0.display())]
    NotEmpty(PathBuf),
    /// It would change what is replayed.
    #[error("--out {}: the folder is inside {}, where nothing is changed", out.display(), journal.display())]
    Inside {
        /// It.
        out: PathBuf,
        /// What is replayed.
        journal: PathBuf,
    },
    /// The system's error.
    #[error("make the folder {}: {error}", out.display())]
    Io {
        /// It.
        out: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    shards: BTreeMap<u16, BufWriter<File>>,
    samples: BufWriter<File>,
    judgements: BufWriter<File>,
    progress: Progress,
    /// Reused for each request.
    text: String,
}

impl Files {
    /// In the folder `out`, which is made, or is empty, and is not inside `journal`.
    pub(super) fn make(out: &Path, journal: &Path, progress: Progress) -> Result<Self, Unusable> {
        let failed = |error| Unusable::Io { out: out.to_owned(), error };
        let inside = |parent: &Path| {
            let [parent, journal] = [parent, journal].map(fs::canonicalize);
            parent.is_ok_and(|parent| journal.is_ok_and(|journal| parent.starts_with(journal)))
        };
        // What does not exist yet is where the nearest of its ancestors that exists is.
        let absolute = std::path::absolute(out).map_err(failed)?;
        if absolute.ancestors().find(|parent| parent.exists()).is_some_and(inside) {
            return Err(Unusable::Inside { out: out.to_owned(), journal: journal.to_owned() });
        }
        fs::create_dir_all(out).map_err(failed)?;
        if fs::read_dir(out).map_err(failed)?.next().is_some() {
            return Err(Unusable::NotEmpty(out.to_owned()));
        }
        let file = |name| File::create_new(out.join(name)).map(BufWriter::new).map_err(failed);
        Ok(Self {
            folder: out.to_owned(),
            shards: BTreeMap::new(),
            samples: file("derived.prom")?,
            judgements: file("judgements.jsonl")?,
            progress,
            text: String::new(),
        })
    }

    /// Writes what is left in memory.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.shards.values_mut().try_for_each(BufWriter::flush)?;
        self.samples.flush()?;
        self.judgements.flush()
    }

    fn shard(&mut self, stream: u16) -> io::Result<&mut BufWriter<File>> {
        if !self.shards.contains_key(&stream) {
            let file = File::create_new(self.folder.join(format!("derived-{stream}.bin")))?;
            self.shards.insert(stream, BufWriter::new(file));
        }
        Ok(self.shards.get_mut(&stream).expect("it was made"))
    }
}

impl Taker for Files {
    fn derived(&mut self, derived: &Derived) -> io::Result<()> {
        let Derived { stream, cause, part, request } = derived;
        let length = u32::try_from(request.body.len()).map_err(io::Error::other)?;
        let file = self.shard(*stream)?;
        file.write_all(&cause.to_le_bytes())?;
        file.write_all(&part.to_le_bytes())?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&request.body)?;
        self.text.clear();
        exposition(request, &mut self.text)?;
        self.samples.write_all(self.text.as_bytes())
    }

    fn judged(&mut self, judged: &Judged) -> io::Result<()> {
        serde_json::to_writer(&mut self.judgements, judged)?;
        self.judgements.write_all(b"\n")
    }

    fn progress(&mut self, done: u64, all: u64) {
        self.progress.tell(done, all);
    }
}

/// The samples of a request as text, a line each.
fn exposition(request: &Outgoing, text: &mut String) -> io::Result<()> {
    let raw = snappy::decompress(&request.body, DECODED_BYTES_MAX).map_err(io::Error::other)?;
    let request = WriteRequest::decode(raw.as_slice()).map_err(io::Error::other)?;
    for series in &request.timeseries {
        for sample in &series.samples {
            push_series(&series.labels, text);
            let value = number(sample.value);
            writeln!(text, " {value} {}", sample.timestamp).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn push_series(labels: &[Label], text: &mut String) {
    let is_name = |label: &&Label| label.name == METRIC_NAME.as_bytes();
    if let Some(name) = labels.iter().find(is_name) {
        text.push_str(&String::from_utf8_lossy(&name.value));
    }
    let mut before = '{';
    for label in labels.iter().filter(|label| !is_name(label)) {
        text.push(before);
        text.push_str(&String::from_utf8_lossy(&label.name));
        text.push_str("=\"");
        for character in String::from_utf8_lossy(&label.value).chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
}

/// As the exposition format writes it. A stale marker is a NaN there.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{LabelRunBuf, Sample, stale_marker};
    use crate::wire::encode::RequestBuilder;

    #[test]
    fn samples_are_written_as_prometheus_writes_them() {
        let check = |labels: &[(&str, &str)], value, expected: &str| {
            let run = labels.iter().copied().collect::<LabelRunBuf>().encode();
            let mut builder = RequestBuilder::new();
            builder.push(&[&run], Sample { timestamp: 12, value });
            let body = snappy::compress(&builder.finish()).into();
            let mut text = String::new();
            exposition(&Outgoing { body, samples: 1, oldest: 12, newest: 12 }, &mut text)
                .expect("it is a request");
            assert_eq!(text, expected);
        };
        let name = ("__name__", "ml_anomaly_score");
        check(&[name], 0.5, "ml_anomaly_score 0.5 12\n");
        check(
            &[name, ("a", "\"x\\\n"), ("b", "é")],
            f64::INFINITY,
            "ml_anomaly_score{a=\"\\\"x\\\\\\n\",b=\"é\"} +Inf 12\n",
        );
        check(&[name], stale_marker(), "ml_anomaly_score NaN 12\n");
    }
}
