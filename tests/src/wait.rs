//! Waiting until something has happened.
//!
//! Owns the one loop that looks again and again, first quickly and then at leisure, and its limit. A fixed sleep is for
//! what should not happen, and for how long a measurement lasts; everything else waits here. Called by tests and by
//! everything else here.

use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(5);

/// # Panics
/// When it is not done within a minute; `what` says what should have been.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    wait_for(what, || done().then_some(()));
}

/// The same for what is found.
///
/// # Panics
/// When nothing is, within a minute.
pub fn wait_for<T>(what: &str, find: impl FnMut() -> Option<T>) -> T {
    found_within(LIMIT, find).unwrap_or_else(|| panic!("{what}: not within {LIMIT:?}"))
}

/// The same where it need not happen: `None` when the time is over.
pub fn found_within<T>(limit: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = SHORTEST;
    loop {
        // The time is read first: what is found after a long sleep still counts.
        let is_over = Instant::now() >= deadline;
        let found = find();
        if found.is_some() || is_over {
            return found;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_until_it_finds_or_the_time_is_over() {
        let mut looks = 0;
        let found = found_within(LIMIT, || {
            looks += 1;
            (looks == 4).then_some("it")
        });
        assert_eq!((found, looks), (Some("it"), 4));
        assert_eq!(found_within(Duration::from_millis(3), || None::<()>), None);
        assert_eq!(found_within(Duration::ZERO, || Some(1)), Some(1), "it looks once at least");
    }
}
