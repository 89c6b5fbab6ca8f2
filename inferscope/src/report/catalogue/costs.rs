//! What a token and a request cost, in CPU, energy and money.

use super::{Figure, Unit, Value};
use crate::report::model::{Efficiency, PrefillDecode};

type Entry = Figure<Efficiency>;

pub const CPU: &[Entry] = &[
    Entry::new(
        "efficiency.cpu_ns_per_token",
        "CPU a token",
        Unit::NanosecondsEach("token"),
        "CPU time of every process of the set, ended ones included, over timing.window / the output tokens that arrived in \
         it: prefill, waits that spin and what the set does without a load are in it, warm-up, start and end of the run are \
         not. Read at the window's ends; between readings it is taken to grow evenly, and what else can have been is in its \
         error. Withheld beyond an error of 25%",
        |e| Value::within(e.cpu_ns_per_token, e.cpu_ns_per_token_error, e.cpu_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.cpu_ns_per_request",
        "CPU a request",
        Unit::NanosecondsEach("request"),
        "cpu_ns_per_token x the output tokens of a successful request, on average",
        |e| Value::within(e.cpu_ns_per_request, e.cpu_ns_per_request_error, e.cpu_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.cpu_idle_ns_per_token",
        "CPU a token, at rest",
        Unit::NanosecondsEach("token"),
        "CPU time a second of the set in the rest of 0.2 to 0.5 s before the load x the window / the same tokens: the part of \
         cpu_ns_per_token that other work of the set takes, as far as it goes on under load",
        |e| Value::within(e.cpu_idle_ns_per_token, e.cpu_idle_ns_per_token_error, e.cpu_idle_reason.as_ref()),
    ),
];

pub const ENERGY: &[Entry] = &[
    Entry::new(
        "efficiency.joules_per_token",
        "energy a token",
        Unit::JoulesEach("token"),
        "energy of the devices that the target uses over timing.window / the output tokens that arrived in it, whoever asked: \
         prefill, the waits between requests and what failed requests took are in it, warm-up is not",
        |e| Value::within(e.joules_per_token, e.joules_per_token_error, e.joules_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.joules_per_request",
        "energy a request",
        Unit::JoulesEach("request"),
        "joules_per_token x the output tokens of a successful request, on average",
        |e| Value::within(e.joules_per_request, e.joules_per_request_error, e.joules_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.joules_per_token_above_idle",
        "energy a token, above rest",
        Unit::JoulesEach("token"),
        "the same energy without the power at rest before the load x the window / the same tokens",
        |e| {
            let error = e.joules_per_token_above_idle_error;
            Value::within(e.joules_per_token_above_idle, error, e.joules_reason.as_ref())
        },
    ),
    Entry::new(
        "efficiency.prefill_decode.joules_per_prompt_token",
        "energy a prompt token",
        Unit::JoulesEach("prompt token"),
        "energy from each successful request's send to its first token / their prompt tokens by usage, cached ones \
         included: the way to the server, its queue and the making of the first token are in it. Only where no other \
         request of this client was in flight",
        |e| {
            part(e, |p| {
                let reason = p.joules_per_prompt_token_reason.as_ref().or(p.prefill_reason.as_ref());
                Value::within(p.joules_per_prompt_token, p.joules_per_prompt_token_error, reason)
            })
        },
    ),
    Entry::new(
        "efficiency.prefill_decode.joules_per_decode_token",
        "energy a token after the first",
        Unit::JoulesEach("token"),
        "energy from each successful request's first token to its last / their output tokens without the first of \
         each. Only where no other request of this client was in flight",
        |e| {
            part(e, |p| {
                let error = p.joules_per_decode_token_error;
                Value::within(p.joules_per_decode_token, error, p.decode_reason.as_ref())
            })
        },
    ),
];

/// Those that `efficiency.definitions` has no words for.
pub const FURTHER_COSTS: &[Entry] = &[
    Entry::new(
        "efficiency.tokens_per_joule",
        "tokens a joule",
        Unit::PerJoule("tokens"),
        "1 / joules_per_token",
        |e| Value::within(e.tokens_per_joule, e.tokens_per_joule_error, e.joules_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.cpu_package_joules",
        "energy of the CPU packages",
        Unit::Joules,
        "of all packages of the machine (RAPL) over the window, whoever used them",
        |e| Value::within(e.cpu_package_joules, e.cpu_package_joules_error, e.cpu_joules_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.cpu_joules_per_token",
        "CPU packages' energy a token",
        Unit::JoulesEach("token"),
        "cpu_package_joules / the output tokens that arrived in the window",
        |e| Value::within(e.cpu_joules_per_token, e.cpu_joules_per_token_error, e.cpu_joules_reason.as_ref()),
    ),
    Entry::new(
        "efficiency.cost_per_million_tokens",
        "cost",
        Unit::Money,
        "of a million output tokens at the measured rate and the prices of --price-per-hour",
        |e| Value::number(e.cost_per_million_tokens, e.cost_reason.as_ref()),
    ),
];

fn part(e: &Efficiency, get: impl FnOnce(&PrefillDecode) -> Value<'_>) -> Value<'_> {
    e.prefill_decode.as_ref().map_or_else(|| Value::unknown(e.prefill_decode_reason.as_ref()), get)
}
