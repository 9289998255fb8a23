//! Memory that is asked for before it is needed, so that nobody has to wait for it.
//!
//! The only unsafe code there is. It reads and writes nothing, and changes no result.

/// Bytes that processors fetch at once.
const LINE: usize = 64;

/// Asks for all of `wanted`.
#[inline]
pub(super) fn prefetch<T: ?Sized>(wanted: &T) {
    let start = std::ptr::from_ref(wanted).cast::<i8>();
    let last = size_of_val(wanted).saturating_sub(1);
    let mut offset = 0;
    while offset < last {
        fetch(start.wrapping_add(offset));
        offset += LINE;
    }
    // Few begin where a line does, so most end in one more.
    fetch(start.wrapping_add(last));
}

/// Items before their turn for which memory is asked.
const STEPS: usize = 2;

/// Yields what another iterator does, and has asked for what each needs while those before it had their turn.
pub(super) struct Ahead<I: Iterator, F> {
    items: I,
    ask: F,
    /// The one that is next, first.
    waiting: [Option<I::Item>; STEPS],
}

impl<I: Iterator, F: Fn(&I::Item)> Ahead<I, F> {
    /// Goes through `items`, which `ask` asks for what they need.
    pub(super) fn new(mut items: I, ask: F) -> Self {
        let waiting = std::array::from_fn(|_| items.next().inspect(&ask));
        Self { items, ask, waiting }
    }
}

impl<I: Iterator, F: Fn(&I::Item)> Iterator for Ahead<I, F> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        let mut item = self.items.next().inspect(&self.ask);
        for waiting in self.waiting.iter_mut().rev() {
            std::mem::swap(waiting, &mut item);
        }
        item
    }
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

    #[test]
    fn items_come_in_order_and_each_is_asked_for_once_before_its_turn() {
        for count in 0..6 {
            let asked = std::cell::Cell::new(0);
            let ask = |item: &usize| assert_eq!(asked.replace(asked.get() + 1), *item);
            let mut ahead = Ahead::new(0..count, ask);
            for item in 0..count {
                assert_eq!(ahead.next(), Some(item));
                assert_eq!(asked.get(), count.min(item + 1 + STEPS));
            }
            assert_eq!((ahead.next(), ahead.next()), (None, None));
        }
    }
}
