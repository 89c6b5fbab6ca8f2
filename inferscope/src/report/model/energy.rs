//! Energy by a sweep's steps and by what the devices did.
//!
//! Owns the shape of it; no arithmetic. A part of `model`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of the devices that the target uses, over a step's own windows; the truth is within the errors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StepEnergy {
    pub energy_mj: Option<u64>,
    pub energy_error_mj: Option<u64>,
    pub joules_per_token: Option<f64>,
    pub joules_per_token_error: Option<f64>,
    pub tokens_per_joule: Option<f64>,
    pub tokens_per_joule_error: Option<f64>,
    /// Why one of these is `null`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub joules_reason: Option<String>,
    pub prefill_decode: Option<PrefillDecode>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prefill_decode_reason: Option<String>,
}

/// What the devices used before and after the first token of each request, summed over the successful ones. What lies
/// between requests, and what failed ones took, is in neither part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrefillDecode {
    /// How they were told apart, in words.
    pub method: String,
    /// Whose parts are summed.
    pub requests: u64,
    pub prompt_tokens: Option<u64>,
    /// After each answer's first.
    pub decode_tokens: u64,
    pub prefill_mj: Option<u64>,
    pub prefill_error_mj: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prefill_reason: Option<String>,
    pub joules_per_prompt_token: Option<f64>,
    pub joules_per_prompt_token_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub joules_per_prompt_token_reason: Option<String>,
    pub decode_mj: Option<u64>,
    pub decode_error_mj: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decode_reason: Option<String>,
    pub joules_per_decode_token: Option<f64>,
    pub joules_per_decode_token_error: Option<f64>,
}
