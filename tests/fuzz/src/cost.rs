//! What an input may cost: processor time and memory, whatever it says.

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use rustix::time::{ClockId, clock_gettime};

/// Processor time of the thread for one input. Its own clock, so that a busy machine changes nothing.
const TIME_MAX: Duration = Duration::from_millis(100);

/// Bytes on the heap for one input: twice what a request may have decompressed by default.
const HEAP_BYTES_MAX: usize = 64 << 20;

/// libFuzzer bounds single allocations only with a sanitizer, and the whole process only once a second.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `decode`. Ends the process where that takes more memory than one input may.
///
/// # Panics
/// Where it takes longer than one input may.
pub(crate) fn bounded<T>(decode: impl FnOnce() -> T) -> T {
    HEAP.set_limit(HEAP.allocated() + HEAP_BYTES_MAX).expect("more than what is allocated");
    let start = thread_time();
    let result = decode();
    let taken = thread_time().saturating_sub(start);
    HEAP.set_limit(usize::MAX).expect("more than what is allocated");
    assert!(taken <= TIME_MAX, "{taken:?} of processor time, and {TIME_MAX:?} is the limit");
    result
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("time that passed")
}
