//! When a window begins or ends, for the sources that read a counter right then.
//!
//! Owns the word from the load's thread to the reading threads: it costs the waking of each, so that it is for the few moments
//! that matter. Read by `gpu` and `rapl`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;

use crate::clock::Mono;

/// Tells the reading threads that a window begins or ends.
#[derive(Debug, Clone, Default)]
pub struct Edges(Vec<(Thread, Arc<Edge>)>);

impl Edges {
    pub(super) fn of(thread: Thread, edge: Arc<Edge>) -> Self {
        Self(vec![(thread, edge)])
    }

    /// For the threads of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// It is now.
    pub fn mark(&self) {
        for (thread, edge) in &self.0 {
            edge.tell();
            thread.unpark();
        }
    }

    /// It is then, unless another comes before.
    pub fn mark_at(&self, t: Mono) {
        for (thread, edge) in &self.0 {
            edge.announce(t);
            thread.unpark();
        }
    }
}

/// The edge that one thread has not read yet.
#[derive(Debug, Default)]
pub(super) struct Edge {
    came: AtomicBool,
    /// Nanoseconds; zero where none is announced.
    ahead: AtomicU64,
}

impl Edge {
    fn tell(&self) {
        self.ahead.store(0, Ordering::Relaxed);
        self.came.store(true, Ordering::Release);
    }

    fn announce(&self, t: Mono) {
        self.ahead.store(t.0, Ordering::Relaxed);
    }

    /// When the next one is announced for.
    pub(super) fn ahead(&self) -> Option<Mono> {
        Some(self.ahead.load(Ordering::Relaxed)).filter(|ns| *ns > 0).map(Mono)
    }

    /// Whether one has come by `now`. It is told once.
    pub(super) fn take(&self, now: Mono) -> bool {
        let due = self.ahead().filter(|t| *t <= now);
        let announced = due.is_some_and(|t| {
            self.ahead.compare_exchange(t.0, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
        self.came.swap(false, Ordering::Acquire) || announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_told_once_and_an_announced_one_when_its_time_has_come() {
        let edge = Edge::default();
        assert!(!edge.take(Mono(5)));
        edge.tell();
        assert!(edge.take(Mono(5)) && !edge.take(Mono(5)));
        edge.announce(Mono(9));
        assert!(!edge.take(Mono(8)) && edge.take(Mono(9)) && !edge.take(Mono(10)));
        // A phase that ended before its time has no other end.
        edge.announce(Mono(20));
        edge.tell();
        assert!(edge.take(Mono(15)) && !edge.take(Mono(25)));
    }
}
