//! A sum of tokens over answers, some of which may not tell theirs.
//!
//! Owns the rule when such a sum is known. Used by `totals` and `delivered`.

/// A sum that is unknown where any part is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TokenSum {
    /// Of fewer than 2^64 values it can't overflow.
    sum: u128,
    known: u64,
    unknown: u64,
}

impl TokenSum {
    pub(crate) fn add(&mut self, n: Option<u64>) {
        match n {
            Some(n) => {
                self.sum += u128::from(n);
                self.known += 1;
            }
            None => self.unknown += 1,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.known += other.known;
        self.unknown += other.unknown;
    }

    pub(crate) fn total(self) -> Option<u64> {
        u64::try_from(self.sum).ok().filter(|_| self.unknown == 0 && self.known > 0)
    }

    /// Of those that told.
    pub(crate) fn mean(self) -> Option<f64> {
        (self.known > 0).then(|| self.sum as f64 / self.known as f64)
    }
}
