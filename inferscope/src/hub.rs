//! From the sources to one collector: bounded channels and the thread that applies what comes through them.
//!
//! Owns the channels, their loss counts, and the collector's thread, on which alone the aggregates live. Never computes a
//! figure and never knows what an event means. A source holds a [`Sender`], a view a [`Snapshots`]; `session` starts the
//! hub before the sources and finishes it after them.
//!
//! ```text
//! source ─ Sender ─▶ bounded channel ─┐
//! source ─ Sender ─▶ bounded channel ─┼─▶ collector: Aggregate::apply ─ Aggregate::snapshot ─▶ view
//! source ─ Sender ─▶ bounded channel ─┘                               └ Aggregate::finish ───▶ figures
//! ```
//!
//! A source that stops, hangs or panics loses nothing of what it sent before.

mod channel;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{ReadyTimeoutError, Receiver, Select};

use crate::aggregate::Aggregate;
use crate::clock::Mono;

pub use channel::{Sender, Snapshots};

use channel::{Board, Intake, Message};

/// Between two snapshots for the views, while one is open. One that opens while nothing happens gets its first snapshot with the
/// next event.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(100);

/// Channels for sources, before the collector starts.
pub struct Hub<A: Aggregate> {
    aggregate: A,
    intakes: Vec<Intake<A>>,
    board: Arc<Board<A::Part>>,
}

/// Events of one source that its full channel did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEvents {
    pub source: &'static str,
    pub events: u64,
}

/// A running collector.
pub struct Collector<A: Aggregate> {
    thread: JoinHandle<(A, Vec<LostEvents>)>,
    stop: crossbeam_channel::Sender<()>,
    board: Arc<Board<A::Part>>,
}

/// The collector's thread panicked. What it had applied is lost with it; the sources go on, and count what they can't send.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the collector panicked")]
pub struct CollectorPanicked;

impl<A> Hub<A>
where
    A: Aggregate + Send + 'static,
    A::Event: Send,
    A::Part: Send + Sync,
{
    #[must_use]
    pub fn new(aggregate: A) -> Self {
        Self { aggregate, intakes: Vec::new(), board: Arc::default() }
    }

    /// A channel for `source`, which holds at most `capacity` events. Events of one channel are applied in their order;
    /// those of two channels in any order, so that each carries its own time.
    pub fn channel(&mut self, source: &'static str, capacity: usize) -> Sender<A> {
        let (sender, intake) = channel::bounded(source, capacity);
        self.intakes.push(intake);
        sender
    }

    /// For views; may be cloned.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots<A::Part> {
        Snapshots::of(&self.board)
    }

    /// Starts the collector; `begin` is the first that its thread does.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self, begin: impl FnOnce() + Send + 'static) -> std::io::Result<Collector<A>> {
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let board = Arc::clone(&self.board);
        let thread = std::thread::Builder::new().name("collector".to_owned()).spawn(move || {
            begin();
            self.collect(&stopped)
        })?;
        Ok(Collector { thread, stop, board })
    }

    /// Applies what comes until it is told to stop, and then what waits in the channels.
    fn collect(mut self, stopped: &Receiver<()>) -> (A, Vec<LostEvents>) {
        let mut open: Vec<usize> = (0..self.intakes.len()).collect();
        let mut next_snapshot = Instant::now();
        loop {
            let due = self.board.is_wanted().then_some(next_snapshot);
            // Asked before the channels are: a source that always has something waiting does not keep a view waiting.
            if due.is_some_and(|due| Instant::now() >= due) {
                self.board.publish(self.aggregate.snapshot(Mono::now()));
                next_snapshot = Instant::now() + SNAPSHOT_INTERVAL;
                continue;
            }
            let mut select = Select::new();
            let stop = select.recv(stopped);
            for &i in &open {
                select.recv(&self.intakes[i].receiver);
            }
            let ready = match due {
                Some(due) => select.ready_deadline(due),
                None => Ok(select.ready()),
            };
            match ready {
                // A snapshot is due.
                Err(ReadyTimeoutError) => {}
                // Whoever dropped the collector wants it to end as well.
                Ok(ready) if ready == stop => break,
                Ok(ready) => {
                    let place = ready - 1;
                    if !self.drain(open[place]) {
                        open.remove(place);
                    }
                }
            }
        }
        for i in open {
            self.drain(i);
        }
        let lost = self.intakes.iter().map(Intake::lost).filter(|lost| lost.events > 0).collect();
        (self.aggregate, lost)
    }

    /// Applies what waits there now, at most a channel's fill, so that a busy source does not keep the others waiting;
    /// whether its source may send more.
    fn drain(&mut self, i: usize) -> bool {
        for _ in 0..self.intakes[i].capacity {
            match self.intakes[i].receiver.try_recv() {
                Ok(Message::Event(event)) => self.aggregate.apply(event),
                Ok(Message::Snapshot(asked)) => {
                    // Who asked may be gone.
                    let _ = asked.send(self.aggregate.snapshot(Mono::now()));
                }
                Err(e) => return !e.is_disconnected(),
            }
        }
        true
    }
}

impl<A: Aggregate> Collector<A> {
    /// For views; may be cloned.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots<A::Part> {
        Snapshots::of(&self.board)
    }

    /// Applies what was sent until now, and ends. The aggregate, to be finished with what only the end tells, and what the
    /// channels lost. A source that still sends is not waited for.
    ///
    /// # Errors
    /// The collector panicked.
    pub fn finish(self) -> Result<(A, Vec<LostEvents>), CollectorPanicked> {
        // It may have ended by a panic.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| CollectorPanicked)
    }
}

#[cfg(test)]
mod tests;
