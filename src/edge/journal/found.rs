//! What a log that was found says of itself.

use std::io;
use std::sync::Arc;

use super::ledger::Ledger;
use super::record::Rules;
use crate::edge::log::Opened;

/// What the newest checkpoint and the records after it say.
pub(super) fn remembered(opened: &Opened) -> io::Result<Ledger> {
    let mut ledger = opened.checkpoint.as_ref().map_or(Ok(Ledger::default()), |it| Ledger::decode(it))?;
    opened.since.iter().for_each(|record| ledger.apply(record));
    Ok(ledger)
}

/// The rules in force after the newest record of a log that was opened; `None` where there were never any.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where another program wrote them.
pub fn newest_rules(opened: &Opened) -> io::Result<Option<Arc<Rules>>> {
    Ok(remembered(opened)?.rules()?)
}

/// The rules in force before the first record of a log that was opened; `None` where there were none yet.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where another program wrote them.
pub fn oldest_rules(opened: &Opened) -> io::Result<Option<Arc<Rules>>> {
    match &opened.oldest {
        Some(bytes) => Ok(Ledger::decode(bytes)?.rules()?),
        None => Ok(None),
    }
}
