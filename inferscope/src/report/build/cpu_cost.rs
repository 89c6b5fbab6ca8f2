//! CPU time a token and a request as the report shows them.
//!
//! Owns the mapping. Called by `report::build`.

use crate::clock::Origin;
use crate::figures::cpu_cost::CpuCost;
use crate::reason::Apart as _;
use crate::report::model;

/// `efficiency` without energy and money.
pub(crate) fn efficiency(origin: Origin, cost: CpuCost) -> model::Efficiency {
    let (a_token, cpu_reason) = cost.a_token.apart();
    let (at_rest, cpu_idle_reason) = cost.at_rest.apart();
    model::Efficiency {
        cpu_ns_per_token: a_token.map(|cpu| cpu.ns),
        cpu_ns_per_token_error: a_token.map(|cpu| cpu.error),
        cpu_ns_per_request: cost.a_request.map(|cpu| cpu.ns),
        cpu_ns_per_request_error: cost.a_request.map(|cpu| cpu.error),
        cpu_reason,
        cpu_idle_ns_per_token: at_rest.map(|cpu| cpu.ns),
        cpu_idle_ns_per_token_error: at_rest.map(|cpu| cpu.error),
        cpu_idle_reason,
        cpu_rest: cost
            .rest
            .map(|rest| model::Span { from_ns: origin.at(rest.from).0, to_ns: origin.at(rest.to).0 }),
        ..model::Efficiency::default()
    }
}
