//! How much memory the peers of this process may have it hold.
//!
//! Owns the sum of what all requests under way hold, and its limit. Whoever holds bytes that depend on what a server
//! sends, or on what is asked, has a [`Charge`] and tells it when its buffers have grown; what finds no room is given
//! up by its holder. A second look, at the memory that the process really has, closes the budget for all who grow.
//! Never allocates anything itself. Used by `http` and below, and by the phase's loop.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Of the ceiling, what requests under way may hold; the rest is for the program, its lists and the report.
const PART: u64 = 5;
const PARTS: u64 = 8;
/// The program itself, with its tracker and a small report.
const OWN_BYTES: u64 = 40 << 20;
/// Of the ceiling, beyond which nothing may grow, whoever holds it.
const TIGHT: u64 = 7;
/// What a request takes that gets a common answer: its own state, a connection's, and hyper's buffers.
const REQUEST_BYTES: u64 = 8 << 10;
pub(super) const CONNECTION_BYTES: u64 = 16 << 10;

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "given up: the answers under way hold as much memory as inferscope may take ({} MiB): raise --max-memory, or ask for \
     fewer requests at a time",
    max_memory >> 20
)]
pub(super) struct NoRoom {
    max_memory: u64,
}

#[derive(Debug)]
pub(super) struct Budget {
    max_memory: u64,
    used: AtomicU64,
    tight: AtomicBool,
    /// Of this process; opened ahead, as nothing may be opened later.
    statm: Option<File>,
}

impl Budget {
    pub(super) fn of(max_memory: u64) -> Arc<Self> {
        Arc::new(Self {
            max_memory,
            used: AtomicU64::new(0),
            tight: AtomicBool::new(false),
            statm: File::open("/proc/self/statm").ok(),
        })
    }

    fn limit(&self) -> u64 {
        for_requests(self.max_memory)
    }

    /// Looks at the memory that the process really has.
    pub(super) fn look(&self) {
        let mut text = [0; 128];
        let read = self.statm.as_ref().and_then(|statm| statm.read_at(&mut text, 0).ok());
        let pages = || std::str::from_utf8(&text[..read?]).ok()?.split(' ').nth(1)?.parse::<u64>().ok();
        if let Some(pages) = pages() {
            self.saw(pages.saturating_mul(rustix::param::page_size() as u64));
        }
    }

    fn saw(&self, resident: u64) {
        let tight = resident > self.max_memory / PARTS * TIGHT;
        if tight && !self.tight.load(Ordering::Relaxed) {
            give_back();
        }
        self.tight.store(tight, Ordering::Relaxed);
    }

    /// For what takes at least `least` as long as it lives.
    pub(super) fn charge(self: &Arc<Self>, least: u64) -> Result<Charge, NoRoom> {
        let mut charge = Charge { budget: Arc::clone(self), least, held: 0 };
        charge.holds(0)?;
        Ok(charge)
    }
}

/// What a request takes that asks for so many tokens, with a body of that size, which is held twice while it is sent.
pub(super) fn of_request(body_bytes: u64, chunk_bytes: u64) -> u64 {
    REQUEST_BYTES.saturating_add(body_bytes.saturating_mul(2)).saturating_add(chunk_bytes)
}

fn for_requests(max_memory: u64) -> u64 {
    (max_memory / PARTS * PART).min(max_memory.saturating_sub(OWN_BYTES))
}

/// How many requests of that size can be under way.
pub(super) fn fit(max_memory: u64, of_request: u64) -> u64 {
    for_requests(max_memory) / of_request.saturating_add(CONNECTION_BYTES).max(1)
}

/// The least ceiling for so many requests under way.
pub(super) fn needed(requests: u64, of_request: u64) -> u64 {
    let each = of_request.saturating_add(CONNECTION_BYTES);
    let all = requests.saturating_mul(each);
    all.div_ceil(PART).saturating_mul(PARTS).max(all.saturating_add(OWN_BYTES))
}

/// One holder's part; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    least: u64,
    held: u64,
}

impl Budget {
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Charge {
    /// Its buffers take that many bytes now.
    ///
    /// # Errors
    /// They have grown, and there is no room for it.
    #[inline]
    pub(super) fn holds(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let bytes = bytes.max(self.least);
        if bytes == self.held { Ok(()) } else { self.change(bytes) }
    }

    /// The holder's buffers only shrank, and stay as they are from here on: it holds exactly these bytes.
    pub(super) fn settle(mut self, bytes: u64) -> Self {
        self.least = 0;
        // What finds no room stays charged as it was.
        let _ = self.holds(bytes);
        self
    }

    #[cold]
    fn change(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let budget = &*self.budget;
        if bytes < self.held {
            budget.used.fetch_sub(self.held - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.held;
            let used = budget.used.fetch_add(more, Ordering::Relaxed);
            // What is needed to begin is not what has the memory run out.
            let is_tight = budget.tight.load(Ordering::Relaxed) && bytes > self.least;
            if used.saturating_add(more) > budget.limit() || is_tight {
                budget.used.fetch_sub(more, Ordering::Relaxed);
                return Err(NoRoom { max_memory: budget.max_memory });
            }
        }
        self.held = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// What was freed goes back to the system.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_finds_no_room_is_refused_and_leaves_the_others_theirs() {
        let budget = Budget::of(64 * MIB);
        let mut one = budget.charge(MIB).unwrap();
        let mut other = budget.charge(MIB).unwrap();
        assert_eq!(one.holds(15 * MIB), Ok(()));
        let refused = other.holds(10 * MIB).unwrap_err();
        assert!(refused.to_string().contains("64 MiB") && refused.to_string().contains("--max-memory"));
        assert_eq!(other.holds(9 * MIB), Ok(()), "24 of 64 are for requests");
        drop(one);
        assert_eq!(other.holds(24 * MIB), Ok(()));
        assert_eq!(other.holds(0), Ok(()));
        assert_eq!(budget.used.load(Ordering::Relaxed), MIB, "the least stays");
        drop(other);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn where_the_process_itself_is_large_nothing_grows_and_what_begins_may() {
        let budget = Budget::of(64 * MIB);
        let mut one = budget.charge(MIB).unwrap();
        budget.saw(57 * MIB);
        assert!(one.holds(2 * MIB).is_err() && budget.charge(MIB).is_ok());
        budget.saw(40 * MIB);
        assert!(one.holds(2 * MIB).is_ok());
    }

    #[test]
    fn as_many_as_fit_need_no_more_than_there_is() {
        for (max_memory, each) in [(512 * MIB, of_request(300, 132 * 24)), (64 * MIB, of_request(1 << 20, 0))]
        {
            let fit = fit(max_memory, each);
            assert!(needed(fit, each) <= max_memory && needed(fit + 1, each) > max_memory);
        }
        assert!(fit(512 * MIB, of_request(300, 132 * 24)) >= 10_000, "what the default promises");
    }
}
