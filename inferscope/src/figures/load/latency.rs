//! One latency: its distribution, or why there is none.
//!
//! Owns when percentiles are withheld. Used by the files beside it, and read by `report::build`.

use crate::aggregate::load::distribution::Recorded;
use crate::reason::LoadReason;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Latency {
    pub(crate) values: Result<Recorded, LoadReason>,
    /// Why the least value and the percentiles mean nothing, though those of all values together do.
    pub(crate) without_percentiles: Option<LoadReason>,
}

impl Latency {
    /// `why_empty`: why nothing was recorded, where that is so.
    pub(crate) fn of(values: Option<Recorded>, why_empty: LoadReason) -> Self {
        Self { values: values.ok_or(why_empty), without_percentiles: None }
    }

    /// Without percentiles, where there are values.
    pub(crate) fn withheld(self, why: LoadReason) -> Self {
        Self { without_percentiles: self.values.is_ok().then_some(why), ..self }
    }

    pub(crate) const fn unknown(why: LoadReason) -> Self {
        Self { values: Err(why), without_percentiles: None }
    }
}
