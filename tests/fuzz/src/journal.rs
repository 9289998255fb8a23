//! Segments of the journal: whatever is found on a disk, a start goes on with it.

use std::sync::Arc;

use promantis::edge::disk::{Disk, MemoryDisk};
use promantis::edge::journal::record::{self, Rules};
use promantis::edge::log::{Durable, Entry, Log, Opened, Options, Reader, Record, check as scan};

use crate::cost::bounded;

const NAME: &str = "00000000000000000007.log";
const OPTIONS: Options = Options { segment_bytes: 1 << 20, tail_bytes: 1 << 20, durable: Durable::Synced };

/// The highest sequence that a log reads.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;

/// How a segment and a record begin, and how long they are beside checkpoint and payload.
const SEGMENT: (&[u8], usize) = (b"prmlog\x00\x01", 40);
const RECORD: (&[u8], usize) = (&[0xF5, b'R', b'e', b'c'], 36);

/// Checks a segment: as it is where the first byte is even, with the checksums that it should have where it is odd.
///
/// # Panics
/// Where something does not hold.
pub fn check(input: &[u8]) {
    let Some((form, segment)) = input.split_first() else { return };
    let mut segment = segment.to_vec();
    if form % 2 == 1 {
        seal(&mut segment);
    }
    let (_, payload_bytes) = bounded(|| scan(&segment));
    assert!(payload_bytes <= segment.len(), "payloads come from the segment");
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let file = disk.create(NAME).expect("memory takes a file");
    file.append(&segment).expect("memory takes every byte");
    let Ok(opened) = bounded(|| Log::open(Arc::clone(&disk), OPTIONS)) else { return };
    assert!(opened.cut_bytes <= segment.len() as u64);
    opened.since.iter().for_each(is_read);
    goes_on(&opened, &disk);
}

/// Puts right the checksums of all that looks like the head of a segment or like a record, so that what is behind
/// them is reached.
fn seal(segment: &mut [u8]) {
    if segment.starts_with(SEGMENT.0) {
        seal_one(segment, SEGMENT);
    }
    let marker = RECORD.0;
    let mut at = 0;
    while let Some(place) = segment[at..].windows(marker.len()).position(|window| window == marker) {
        at += place;
        seal_one(&mut segment[at..], RECORD);
        at += marker.len();
    }
}

/// After the begin stand the checksum of all that follows and the length of the last part.
fn seal_one(bytes: &mut [u8], (begin, fixed): (&[u8], usize)) {
    let checked_from = begin.len() + 4;
    let Some(length) = bytes.get(checked_from..).and_then(|rest| rest.first_chunk()) else { return };
    let end = fixed.saturating_add(u32::from_le_bytes(*length) as usize);
    if let Some(checked) = bytes.get(checked_from..end) {
        let crc = crc32c::crc32c(checked);
        bytes[begin.len()..checked_from].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A record is one of the kinds that there are, or none.
fn is_read(record: &Record) {
    let kinds = bounded(|| {
        let rules = record::rules(record).ok().flatten();
        if let Some(rules) = &rules {
            // Compared as bytes, since a NaN is not itself.
            let bytes = rules.encode();
            assert_eq!(Rules::decode(&bytes).map(|again| again.encode()), Ok(bytes));
        }
        let others = [
            record::request(record).is_some(),
            record::derived(record).is_some(),
            record::cursor(record).is_some(),
        ];
        others.into_iter().filter(|is| *is).count() + usize::from(rules.is_some())
    });
    assert!(kinds <= 1, "a record is of one kind");
}

/// The log takes a record and keeps it, whatever was there before.
fn goes_on(opened: &Opened, disk: &Arc<dyn Disk>) {
    let log = &opened.log;
    if log.next() > SEQUENCE_MAX {
        return; // There are no more numbers, after more records than a disk holds.
    }
    let parts: &[&[u8]] = &[b"new"];
    let entry = Entry { arrival: 5, kind: record::TICK, stream: 0, parts };
    let sequence = bounded(|| {
        log.roll(b"checkpoint").expect("memory has room");
        let sequence = log.append(&entry).expect("memory has room");
        log.sync().expect("memory has room");
        sequence
    });
    let again = bounded(|| Log::open(Arc::clone(disk), OPTIONS)).expect("what was opened once");
    assert_eq!(again.checkpoint.as_deref(), Some(&b"checkpoint"[..]));
    assert_eq!(again.cut_bytes, 0, "what is torn is cut once");
    let mut expected: Vec<_> = opened.since.iter().map(|record| record.head.sequence).collect();
    expected.push(sequence);
    for log in [log, &again.log] {
        let mut reader = Reader::from(0);
        let next = || log.read(&mut reader, u64::MAX, |_| true).expect("memory can be read");
        let read: Vec<_> = bounded(|| std::iter::from_fn(next).map(|record| record.head.sequence).collect());
        assert_eq!(read, expected, "what was found and what was appended is there after the next start");
    }
}

/// Segments as a log writes them, with a record of each kind, whole and cut short.
pub fn seeds() -> impl Iterator<Item = Vec<u8>> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let log = Log::open(Arc::clone(&disk), OPTIONS).expect("memory is empty").log;
    log.roll(b"checkpoint").expect("memory has room");
    let config = promantis::config::parse("").expect("defaults are valid");
    let rules = Rules { plan: (*config.plan).clone(), shards: 2, samples_per_request: 9 }.encode();
    let kinds: [(u8, &[u8]); 5] = [
        (record::RULES, &rules),
        (record::REQUEST, b"\x01\x01latest--body"),
        (record::TICK, b""),
        (record::DERIVED, b"cause---partmanyoldest--newest--body"),
        (record::CURSOR, b"\x05\0\0\0\0\0\0\0target"),
    ];
    for (kind, payload) in kinds {
        let entry = Entry { arrival: 1_700_000_000_000, kind, stream: 1, parts: &[payload] };
        log.append(&entry).expect("memory has room");
    }
    let names = disk.list().expect("memory can be listed");
    let file = disk.open(&names[0]).expect("it is listed");
    let segment = promantis::edge::disk::read_whole(&*file, 1 << 20).expect("memory can be read");
    (0..6).map(move |cut| [&[cut % 2], &segment[..segment.len() - 9 * usize::from(cut)]].concat())
}
