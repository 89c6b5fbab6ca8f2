//! From figures to findings: what makes a figure doubtful, what stands out, what limits the server.
//!
//! Owns the rules with their thresholds and words. Pure functions of [`figures`](crate::figures). Never computes a figure that a
//! reader may want to see, and never names a type of the report.

pub(crate) mod bottleneck;
pub(crate) mod devices;
