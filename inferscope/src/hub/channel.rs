//! One source's channel, and the board on which views find the latest snapshot.
//!
//! Owns the bound and the count of what found no room. A send never waits, unless it says so. Used by `hub`, and by sources and
//! views through it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, TrySendError};
use tokio::sync::oneshot;

use super::LostEvents;
use crate::aggregate::Aggregate;

/// Between two looks whether a full channel has room for a question.
const ROOM_INTERVAL: Duration = Duration::from_millis(1);

/// What goes through a channel.
pub(super) enum Message<A: Aggregate> {
    Event(A::Event),
    /// A snapshot as of all that was sent before.
    Snapshot(oneshot::Sender<A::Part>),
}

/// A source's end.
pub struct Sender<A: Aggregate> {
    channel: crossbeam_channel::Sender<Message<A>>,
    lost: Arc<AtomicU64>,
}

impl<A: Aggregate> Clone for Sender<A> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), lost: Arc::clone(&self.lost) }
    }
}

/// The collector's end.
pub(super) struct Intake<A: Aggregate> {
    source: &'static str,
    pub(super) capacity: usize,
    pub(super) receiver: Receiver<Message<A>>,
    lost: Arc<AtomicU64>,
}

pub(super) fn bounded<A: Aggregate>(source: &'static str, capacity: usize) -> (Sender<A>, Intake<A>) {
    let (channel, receiver) = crossbeam_channel::bounded(capacity);
    let lost = Arc::new(AtomicU64::new(0));
    (Sender { channel, lost: Arc::clone(&lost) }, Intake { source, capacity, receiver, lost })
}

impl<A: Aggregate> Intake<A> {
    pub(super) fn lost(&self) -> LostEvents {
        LostEvents { source: self.source, events: self.lost.load(Ordering::Relaxed) }
    }
}

impl<A: Aggregate> Sender<A> {
    /// Never waits. An event that finds the channel full is lost, and counted.
    pub fn send(&self, event: A::Event) {
        match self.channel.try_send(Message::Event(event)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.count_lost(),
        }
    }

    /// Waits up to `limit` for room: for a source that loses nothing while it waits. Then the event is lost, and counted.
    pub fn send_within(&self, event: A::Event, limit: Duration) {
        match self.channel.send_timeout(Message::Event(event), limit) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected(_)) => self.count_lost(),
        }
    }

    /// A snapshot as of all that this source sent before; `None` where there is no collector. For a source that decides by
    /// figures, between two parts of its work: it waits for the collector, and for room in a full channel.
    pub async fn snapshot(&self) -> Option<A::Part> {
        let (tell, told) = oneshot::channel();
        let mut message = Message::Snapshot(tell);
        loop {
            match self.channel.try_send(message) {
                Ok(()) => return told.await.ok(),
                Err(TrySendError::Full(unsent)) => message = unsent,
                Err(TrySendError::Disconnected(_)) => return None,
            }
            tokio::time::sleep(ROOM_INTERVAL).await;
        }
    }

    fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// The latest snapshot. Nothing is computed while no view is open.
pub(super) struct Board<P> {
    views: AtomicUsize,
    latest: Mutex<Option<Arc<P>>>,
}

impl<P> Default for Board<P> {
    fn default() -> Self {
        Self { views: AtomicUsize::new(0), latest: Mutex::new(None) }
    }
}

impl<P> Board<P> {
    pub(super) fn is_wanted(&self) -> bool {
        self.views.load(Ordering::Relaxed) > 0
    }

    pub(super) fn publish(&self, part: P) {
        let part = Some(Arc::new(part));
        // Whole, whatever panicked meanwhile.
        let old = std::mem::replace(&mut *self.latest.lock().unwrap_or_else(PoisonError::into_inner), part);
        // Outside of the lock: it may be the last that holds it.
        drop(old);
    }
}

/// A view's end: while one is held, the collector publishes a snapshot each [`super::SNAPSHOT_INTERVAL`].
pub struct Snapshots<P>(Arc<Board<P>>);

impl<P> Snapshots<P> {
    pub(super) fn of(board: &Arc<Board<P>>) -> Self {
        board.views.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(board))
    }

    /// `None`: there was none yet.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<P>> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<P> Clone for Snapshots<P> {
    fn clone(&self) -> Self {
        Self::of(&self.0)
    }
}

impl<P> Drop for Snapshots<P> {
    fn drop(&mut self) {
        self.0.views.fetch_sub(1, Ordering::Relaxed);
    }
}
