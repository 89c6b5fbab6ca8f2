//! The readings of an energy counter around a moment that matters.
//!
//! Owns when it is read for that: at once, and then until it has moved on, which bounds what was used by then from both
//! sides (`figures/energy`). Pure. Used by `device`.

use crate::clock::Mono;
use crate::units::Nanos;

/// Refreshes come every 100.6 ms on current devices.
const FIRST_LOOK: Nanos = Nanos::from_millis(104);
/// Where that was too early.
const NEXT_LOOK: Nanos = Nanos::from_millis(52);
/// One that has not come by then is not waited for.
const LIMIT: Nanos = Nanos::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Bracket {
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    shown: u64,
    look: Mono,
    until: Mono,
}

impl Bracket {
    /// The counter was read right after the moment, by `now`.
    pub(super) fn begin(&mut self, shown: u64, now: Mono) {
        self.open = Some(Open { shown, look: now.plus(FIRST_LOOK), until: now.plus(LIMIT) });
    }

    /// It was read again.
    pub(super) fn read(&mut self, shown: u64, now: Mono) {
        self.open = self.open.filter(|open| open.shown == shown && now < open.until);
        if let Some(open) = self.open.as_mut().filter(|open| open.look <= now) {
            open.look = now.plus(NEXT_LOOK);
        }
    }

    /// It can't be read.
    pub(super) fn give_up(&mut self) {
        self.open = None;
    }

    /// When it is to be read next for it.
    pub(super) fn look(&self) -> Option<Mono> {
        self.open.map(|open| open.look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(t: u64) -> Mono {
        Mono(t * 1_000_000)
    }

    #[test]
    fn two_readings_are_enough_where_the_counter_moves_on_in_time() {
        let mut bracket = Bracket::default();
        assert_eq!(bracket.look(), None);
        bracket.begin(7, ms(10));
        assert_eq!(bracket.look(), Some(ms(114)));
        bracket.read(9, ms(115));
        assert_eq!(bracket.look(), None);
    }

    #[test]
    fn a_counter_that_stands_still_is_read_until_the_limit() {
        let mut bracket = Bracket::default();
        bracket.begin(7, ms(0));
        let mut looks = 0;
        while let Some(look) = bracket.look() {
            bracket.read(7, look);
            looks += 1;
        }
        assert_eq!(looks, 9);
    }
}
