//! The body of a request, read within limits of size, time and memory.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{self, Instant};

use super::budget::Loan;
use crate::edge::journal::Full;
use crate::edge::limits::ReceiveLimits;

/// Bytes per second that a body must keep up.
const RATE_MIN: u64 = 16 << 10;
/// How far a body may fall behind that rate.
const LAG_MAX: Duration = Duration::from_secs(3);
/// Bytes to make room for before the first has come, however many are announced.
const CAPACITY_FIRST: usize = 64 << 10;

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("body exceeds `limits.body_bytes_max` of {max} bytes; lower the sender's batch size or raise it")]
    TooLarge { max: usize },
    #[error("bodies of {max} bytes are in flight; come again")]
    NoMemory { max: usize },
    #[error("body came too slowly: {got} bytes in {seconds:.1} s")]
    TooSlow { got: usize, seconds: f64 },
    #[error("body ended early after {got} bytes")]
    Incomplete { got: usize },
    #[error(transparent)]
    JournalFull(#[from] Full),
}

/// Refuses a body by its announced size, before a byte of it is read.
pub(super) fn check_announced(body: &Incoming, max: usize) -> Result<(), Unread> {
    let announced = hyper::body::Body::size_hint(body).lower();
    if announced > max as u64 { Err(Unread::TooLarge { max }) } else { Ok(()) }
}

/// Reads all of `body`, with memory on `loan`.
pub(super) async fn read(
    mut body: Incoming,
    limits: &ReceiveLimits,
    budget_max: usize,
    loan: &mut Loan,
) -> Result<Bytes, Unread> {
    let started = Instant::now();
    let mut bytes = Vec::new();
    let announced = usize::try_from(hyper::body::Body::size_hint(&body).lower()).unwrap_or(usize::MAX);
    loop {
        let due = started + allowed(bytes.len(), limits.body_timeout);
        let Ok(frame) = time::timeout_at(due, body.frame()).await else {
            let seconds = started.elapsed().as_secs_f64();
            return Err(Unread::TooSlow { got: bytes.len(), seconds });
        };
        match frame {
            None => return Ok(bytes.into()),
            Some(Err(_)) => return Err(Unread::Incomplete { got: bytes.len() }),
            Some(Ok(frame)) => {
                // Trailers say nothing that is wanted.
                let data = frame.into_data().unwrap_or_default();
                let came_at_once = bytes.is_empty() && hyper::body::Body::is_end_stream(&body);
                if bytes.capacity() == 0 && !came_at_once {
                    bytes.reserve_exact(announced.min(CAPACITY_FIRST));
                }
                let Some(room) = room(&bytes, data.len(), limits.body_bytes_max) else {
                    return Err(Unread::TooLarge { max: limits.body_bytes_max });
                };
                if !loan.grow_to(room) {
                    return Err(Unread::NoMemory { max: budget_max });
                }
                if came_at_once {
                    // As small ones do: it stays in the buffer that it was read into.
                    return Ok(data);
                }
                bytes.reserve_exact(room - bytes.len());
                bytes.extend_from_slice(&data);
            }
        }
    }
}

/// The capacity that `bytes` needs for `more` of them, doubling, but never beyond `max`: the largest body takes no
/// more memory than it is allowed. `None` where it would become larger.
fn room(bytes: &Vec<u8>, more: usize, max: usize) -> Option<usize> {
    let needed = bytes.len().checked_add(more).filter(|needed| *needed <= max)?;
    let capacity = bytes.capacity();
    Some(if needed <= capacity { capacity } else { capacity.saturating_mul(2).clamp(needed, max) })
}

/// How long after its first moment a body of which `got` bytes have come may let the next be awaited.
fn allowed(got: usize, body_timeout: Duration) -> Duration {
    let earned = Duration::from_millis((got as u64).saturating_mul(1000) / RATE_MIN);
    body_timeout.min(LAG_MAX.saturating_add(earned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_time_up_to_the_timeout() {
        let timeout = Duration::from_secs(10);
        assert_eq!(allowed(0, timeout), LAG_MAX);
        assert_eq!(allowed(32 << 10, timeout), LAG_MAX + Duration::from_secs(2));
        assert_eq!(allowed(1 << 20, timeout), timeout);
        assert_eq!(allowed(usize::MAX, timeout), timeout);
        assert_eq!(allowed(0, Duration::from_secs(1)), Duration::from_secs(1));
    }

    #[test]
    fn room_doubles_up_to_the_largest_body() {
        let mut bytes = Vec::new();
        bytes.reserve_exact(100);
        bytes.extend_from_slice(&[0; 90]);
        assert_eq!(room(&bytes, 10, 1000), Some(100));
        assert_eq!(room(&bytes, 11, 1000), Some(200));
        assert_eq!(room(&bytes, 800, 1000), Some(890));
        assert_eq!(room(&bytes, 11, 150), Some(150));
        assert_eq!(room(&bytes, 61, 150), None);
        assert_eq!(room(&bytes, usize::MAX, usize::MAX), None);
    }
}
