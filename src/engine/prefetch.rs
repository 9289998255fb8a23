//! Memory that is asked for before it is needed, so that nobody has to wait for it.
//!
//! The only unsafe code there is. It reads and writes nothing, and changes no result.

/// Bytes that processors fetch at once.
const LINE: usize = 64;

/// Asks for all of `wanted`.
#[inline]
pub(super) fn prefetch<T: ?Sized>(wanted: &T) {
    let start = std::ptr::from_ref(wanted).cast::<i8>();
    let size = size_of_val(wanted);
    for offset in (0..size).step_by(LINE) {
        fetch(start.wrapping_add(offset));
    }
    // Few begin where a line does, so most end in one more.
    fetch(start.wrapping_add(size.saturating_sub(1)));
}

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "the hint has no safe form; without it a sample waits for memory several times"
)]
#[inline]
fn fetch(line: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint accesses nothing and cannot fault, whatever the address; every x86-64 has SSE.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn fetch(_line: *const i8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_as_it_is() {
        let wanted: Vec<u8> = (0..200).collect();
        (0..=200).for_each(|end| prefetch(&wanted[..end]));
        prefetch("");
        prefetch(&());
        assert!(wanted.iter().copied().eq(0..200));
    }
}
