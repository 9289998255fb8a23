//! What records say, as bytes.
//!
//! All numbers little-endian. A request: protocol `u8` (1 or 2), flags `u8` (1: to be forwarded), latest timestamp
//! that was accepted `i64`, body as received. A derived request: cause `u64`, part `u32`, samples `u32`, oldest and
//! newest timestamp `i64`, body as it is posted; its stream is the shard. A cursor: next sequence `u64`, name of
//! the target; its stream is that of which it tells. Rules: see [`Rules::encode`]. A tick has no payload.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::edge::log::Record;
use crate::edge::send::Outgoing;
use crate::engine::monitor::Plan;
use crate::wire::decode::Protocol;

/// A remote-write request as it came.
pub const REQUEST: u8 = 1;
/// Time passed.
pub const TICK: u8 = 2;
/// From here on other rules are in force.
pub const RULES: u8 = 3;
/// A request for targets that a shard derived.
pub const DERIVED: u8 = 4;
/// How far a target is.
pub const CURSOR: u8 = 5;

/// The stream of forward cursors; those of derived requests are shard numbers.
pub const FORWARD: u16 = u16::MAX;

/// Rises with every change of what is encoded of [`Rules`], down to the smallest part of a plan.
const RULES_VERSION: u8 = 1;

const DERIVED_BYTES: usize = 32;
const REQUEST_BYTES: usize = 10;

/// What decides, beside the requests themselves, which bytes are derived from them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// What the engine does.
    pub plan: Plan,
    /// Among how many shards series are divided. At least 1.
    pub shards: u16,
    /// Samples in one derived request; 0 where there is nobody to send to.
    pub samples_per_request: u32,
}

/// Why something cannot be read whose checksum is good: another program wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Foreign {
    /// It has another version.
    #[error(
        "the {what} in the journal have version {found}, this program reads version {known}; go on with the program that wrote them, or begin with an empty `journal.path`"
    )]
    Version {
        /// What was to be read.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The version that is read.
        known: u8,
    },
    /// It has the right version, and is something else all the same.
    #[error(
        "the {what} in the journal are not in the form of version {known}; go on with the program that wrote them, or begin with an empty `journal.path`"
    )]
    Form {
        /// What was to be read.
        what: &'static str,
        /// Its version.
        known: u8,
    },
}

impl From<Foreign> for io::Error {
    fn from(foreign: Foreign) -> Self {
        Self::new(io::ErrorKind::Unsupported, foreign)
    }
}

/// Bytes of postcard behind a version byte.
pub(super) fn encode(version: u8, it: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(it, vec![version]).expect("it has nothing that cannot be written")
}

/// From bytes that [`encode`] made of that version, and nothing behind them.
pub(super) fn decode<T: DeserializeOwned>(
    (what, known): (&'static str, u8),
    bytes: &[u8],
) -> Result<T, Foreign> {
    match bytes.split_first() {
        Some((&found, _)) if found != known => Err(Foreign::Version { what, found, known }),
        Some((_, rest)) => match postcard::take_from_bytes(rest) {
            Ok((it, [])) => Ok(it),
            _ => Err(Foreign::Form { what, known }),
        },
        None => Err(Foreign::Form { what, known }),
    }
}

impl Rules {
    /// As bytes: a version, and those of postcard.
    pub fn encode(&self) -> Vec<u8> {
        encode(RULES_VERSION, self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`Foreign`] where they are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Foreign> {
        let (what, known) = ("rules", RULES_VERSION);
        let rules: Self = decode((what, known), bytes)?;
        if rules.shards > 0 { Ok(rules) } else { Err(Foreign::Form { what, known }) }
    }

    /// How shards are numbered.
    pub fn shards(&self) -> usize {
        usize::from(self.shards)
    }
}

/// A request, as the log holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The message in the body.
    pub protocol: Protocol,
    /// Compressed, byte for byte as received.
    pub body: Bytes,
    /// Samples after this time were not accepted, Unix milliseconds.
    pub latest: i64,
    /// Whether it goes to forward targets, too.
    pub forward: bool,
}

impl Received {
    /// What stands before the body.
    pub(super) fn head(&self) -> [u8; REQUEST_BYTES] {
        let mut head = [0; REQUEST_BYTES];
        head[0] = match self.protocol {
            Protocol::V1 => 1,
            Protocol::V2 => 2,
        };
        head[1] = u8::from(self.forward);
        head[2..].copy_from_slice(&self.latest.to_le_bytes());
        head
    }
}

/// The request that a record holds; `None` where it holds none.
pub fn request(record: &Record) -> Option<Received> {
    let (head, body) = record.payload.split_first_chunk::<REQUEST_BYTES>()?;
    let protocol = match head[0] {
        _ if record.head.kind != REQUEST => return None,
        1 => Protocol::V1,
        2 => Protocol::V2,
        _ => return None,
    };
    let [_, flags, latest @ ..] = *head;
    let body = record.payload.slice_ref(body);
    Some(Received { protocol, body, latest: i64::from_le_bytes(latest), forward: flags & 1 == 1 })
}

/// Which derived request of a stream it is: the record that brought it forth, and the how manieth of that.
pub type Origin = (u64, u32);

/// What stands before the body of a derived request.
pub(super) fn derived_head((cause, part): Origin, request: &Outgoing) -> [u8; DERIVED_BYTES] {
    let mut head = [0; DERIVED_BYTES];
    head[..8].copy_from_slice(&cause.to_le_bytes());
    head[8..12].copy_from_slice(&part.to_le_bytes());
    head[12..16].copy_from_slice(&u32::try_from(request.samples).unwrap_or(u32::MAX).to_le_bytes());
    head[16..24].copy_from_slice(&request.oldest.to_le_bytes());
    head[24..].copy_from_slice(&request.newest.to_le_bytes());
    head
}

/// The derived request that a record holds, and its origin; `None` where it holds none.
pub fn derived(record: &Record) -> Option<(Origin, Outgoing)> {
    let (head, body) = record.payload.split_first_chunk::<DERIVED_BYTES>()?;
    let rest = head.split_first_chunk::<8>().filter(|_| record.head.kind == DERIVED);
    let (cause, rest) = rest?;
    let (part, rest) = rest.split_first_chunk()?;
    let (samples, rest) = rest.split_first_chunk()?;
    let (oldest, newest) = rest.split_first_chunk::<8>()?;
    let request = Outgoing {
        body: record.payload.slice_ref(body),
        samples: u32::from_le_bytes(*samples) as usize,
        oldest: i64::from_le_bytes(*oldest),
        newest: i64::from_le_bytes(newest.try_into().ok()?),
    };
    Some(((u64::from_le_bytes(*cause), u32::from_le_bytes(*part)), request))
}

/// The derived request that a record holds; `None` where it holds none.
pub fn outgoing(record: &Record) -> Option<Outgoing> {
    derived(record).map(|(_, request)| request)
}

/// The target and the sequence that a cursor tells; `None` where the record is something else.
pub fn cursor(record: &Record) -> Option<(&str, u64)> {
    let (next, name) = record.payload.split_first_chunk()?;
    let name = std::str::from_utf8(name).ok().filter(|_| record.head.kind == CURSOR)?;
    Some((name, u64::from_le_bytes(*next)))
}

/// The rules that a record puts in force; `None` where it is something else.
///
/// # Errors
/// [`Foreign`] where another program wrote them.
pub fn rules(record: &Record) -> Result<Option<Arc<Rules>>, Foreign> {
    match record.head.kind {
        RULES => Rules::decode(&record.payload).map(|rules| Some(Arc::new(rules))),
        _ => Ok(None),
    }
}

/// How many shards there are from this record on; `None` where it does not tell.
pub fn rules_shards(record: &Record) -> Option<u16> {
    rules(record).ok()?.map(|rules| rules.shards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::log::Head;

    fn record(kind: u8, parts: &[&[u8]]) -> Record {
        let head = Head { sequence: 0, arrival: 0, behind: 0, stream: 0, kind };
        Record { head, payload: parts.concat().into() }
    }

    #[test]
    fn requests_come_back_as_they_were() {
        for (protocol, forward) in [(Protocol::V1, true), (Protocol::V2, false)] {
            let body = Bytes::from_static(b"body");
            let received = Received { protocol, body, latest: -3, forward };
            let record = record(REQUEST, &[&received.head(), &received.body]);
            assert_eq!(request(&record), Some(received));
        }
        assert_eq!(request(&record(REQUEST, &[b"\x03too new......"])), None);
        assert_eq!(request(&record(TICK, &[&[1; 20]])), None);
    }

    #[test]
    fn rules_come_back_as_they_were_and_those_of_another_program_do_not() {
        let plan = crate::config::parse("").expect("the defaults are valid").plan;
        let whole = Rules { plan: Plan::clone(&plan), shards: 300, samples_per_request: 9 };
        let bytes = whole.encode();
        assert_eq!(rules(&record(RULES, &[&bytes])), Ok(Some(Arc::new(whole))));
        assert_eq!(rules(&record(TICK, &[&bytes])), Ok(None));
        let (what, known) = ("rules", RULES_VERSION);
        let newer = [&[9], &bytes[1..]].concat();
        assert_eq!(Rules::decode(&newer), Err(Foreign::Version { what, found: 9, known }));
        let malformed = [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), &[]];
        for malformed in malformed {
            assert_eq!(Rules::decode(malformed), Err(Foreign::Form { what, known }));
        }
    }

    #[test]
    fn derived_requests_and_cursors_come_back_as_they_were() {
        let request =
            Outgoing { body: Bytes::from_static(b"body"), samples: 7, oldest: -1, newest: i64::MAX };
        let payload = record(DERIVED, &[&derived_head((9, 2), &request), &request.body]);
        assert_eq!(derived(&payload), Some(((9, 2), request)));
        assert_eq!(derived(&record(DERIVED, &[&[0; 31]])), None);
        assert_eq!(cursor(&record(CURSOR, &[&5_u64.to_le_bytes(), b"one"])), Some(("one", 5)));
        assert_eq!(cursor(&record(CURSOR, &[&5_u64.to_le_bytes(), &[0xFF]])), None);
    }
}
