//! The workshop: one thread that decodes large requests, one after the other.
//!
//! An allocator keeps for each thread some of what it lent to it. Were large requests decoded on every thread
//! that reads sockets, their memory would stay as many times over; here it stays once. Nor do other
//! connections wait for the milliseconds that such a request takes.
//!
//! Whoever waits here holds a loan for the size of its request, so that the queue is as bounded as loans are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A thread for long work. It ends once this is dropped and all that was given to it is done.
#[derive(Debug)]
pub(super) struct Workshop(mpsc::Sender<Job>);

impl Workshop {
    pub(super) fn open() -> Self {
        let (jobs, waiting) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for job in waiting {
                // Who asked for it learns of a panic by getting no result.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        });
        Self(jobs)
    }

    /// The result of `work`, which is left undone if nobody waits for it when its turn comes. Panics where it
    /// panicked.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                // Nobody waits any more, then.
                let _ = done.send(work());
            }
        };
        self.0.send(Box::new(job)).expect("the thread runs as long as it can be asked");
        result.await.expect("the work did not panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_by_one_thread_in_turn() {
        let workshop = Workshop::open();
        let thread = || thread::current().id();
        let (one, two) = tokio::join!(workshop.run(thread), workshop.run(thread));
        assert_eq!(one, two);
        assert_ne!(one, thread());
    }

    #[tokio::test]
    async fn work_that_panics_spoils_nothing_for_the_next() {
        let workshop = std::sync::Arc::new(Workshop::open());
        let shared = std::sync::Arc::clone(&workshop);
        let failed = tokio::spawn(async move { shared.run(|| -> u8 { panic!("on purpose") }).await });
        assert!(failed.await.is_err());
        assert_eq!(workshop.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_left_undone() {
        let workshop = Workshop::open();
        let (open, gate) = mpsc::channel::<()>();
        let (told, was_told) = mpsc::channel();
        {
            let mut first = Box::pin(workshop.run(move || gate.recv()));
            let mut second = Box::pin(workshop.run(move || told.send(())));
            let waker = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(waker);
            assert!(first.as_mut().poll(&mut context).is_pending());
            assert!(second.as_mut().poll(&mut context).is_pending());
        }
        drop(open);
        workshop.run(|| ()).await;
        assert!(was_told.try_recv().is_err());
    }
}
