use super::*;
use crate::analysis::fixture::RequestBuilder;
use crate::analysis::tokens::Tokens;
use crate::event::{FailureKind, RequestLog};
use crate::report::model::TokenSource;

const MS: u64 = 1_000_000;

fn of(requests: Vec<RequestLog>) -> model::Timing {
    let mut fold = Fold::new();
    for request in &requests {
        fold.add(&Answer { request, tokens: Tokens::of(request) }, None, None);
    }
    timing(&fold, None, None)
}

fn request() -> RequestBuilder {
    RequestBuilder::new(0)
}

#[test]
fn a_role_only_chunk_is_no_first_token() {
    let t = of(vec![request().role(10).content([50]).usage(1, 1).build()]);
    assert_eq!(t.ttft_ns.max, Some(50 * MS));
}

#[test]
fn reasoning_counts_for_ttft_and_not_for_ttfo() {
    let t = of(vec![request().reasoning([30, 40]).content([90]).usage(1, 3).build()]);
    assert_eq!((t.ttft_ns.max, t.ttfo_ns.max), (Some(30 * MS), Some(90 * MS)));
}

#[test]
fn an_answer_of_reasoning_alone_has_no_ttfo_and_says_why() {
    let t = of(vec![request().reasoning([30, 40]).usage(1, 2).build()]);
    assert_eq!((t.ttfo_ns.count, t.ttft_ns.count), (0, 1));
    assert_eq!(t.ttfo_ns.reason.as_deref(), Some("no answer held a token that is not reasoning"));
}

#[test]
fn open_loop_ttft_starts_at_the_schedule_and_closed_at_the_send() {
    let open = of(vec![request().scheduled(100).sent(130).content([150]).build()]);
    assert_eq!(open.ttft_ns.max, Some(50 * MS));
    let closed = of(vec![request().sent(130).content([150]).build()]);
    assert_eq!(closed.ttft_ns.max, Some(20 * MS));
}

#[test]
fn gaps_are_between_chunks_with_text_and_pooled_over_the_requests() {
    let t = of(vec![
        request().content([10, 20, 50]).usage(1, 3).done(60).build(),
        request().sent(100).content([110, 115]).usage(1, 2).build(),
    ]);
    let d = &t.inter_chunk_ns;
    assert_eq!((d.count, d.min, d.max, d.mean), (3, Some(5 * MS), Some(30 * MS), Some(15e6)));
    assert_eq!(t.inter_token_ns.count, 3);
    assert_eq!(t.token_chunks, 5);
}

#[test]
fn a_gap_before_k_tokens_counts_k_times_as_a_kth_of_it() {
    let t = of(vec![request().content_with_tokens([(10, 1), (50, 4), (60, 1)]).usage(1, 6).build()]);
    assert_eq!((t.inter_chunk_ns.count, t.inter_chunk_ns.max), (2, Some(40 * MS)));
    let d = &t.inter_token_ns;
    assert_eq!((d.count, d.min, d.max, d.mean), (5, Some(10 * MS), Some(10 * MS), Some(10e6)));
}

#[test]
fn tokens_without_text_belong_to_the_next_chunk_with_text() {
    let r = request()
        .chunk(10, ChunkKind::Content, Some(1))
        .chunk(20, ChunkKind::Other, Some(1))
        .chunk(30, ChunkKind::Content, Some(1))
        .usage(1, 3);
    let d = of(vec![r.build()]).inter_token_ns;
    assert_eq!((d.count, d.min, d.max), (2, Some(10 * MS), Some(10 * MS)));
}

#[test]
fn text_without_a_token_of_its_own_lends_its_time_to_the_next_token() {
    let d = of(vec![request().content_with_tokens([(10, 1), (25, 0), (40, 1)]).usage(1, 2).build()])
        .inter_token_ns;
    assert_eq!((d.count, d.max), (1, Some(30 * MS)));
}

#[test]
fn unknown_tokens_a_chunk_leave_inter_token_empty_with_the_reason() {
    let t = of(vec![request().content([10, 50, 90]).usage(1, 12).build()]);
    assert_eq!((t.inter_token_ns.count, t.inter_token_ns.p50), (0, None));
    assert!(t.inter_token_ns.reason.unwrap().contains("unknown: see inter_chunk_ns"));
    assert_eq!((t.inter_chunk_ns.count, t.output_tokens), (2, Some(12)));
    // The total still gives a mean time a token.
    assert_eq!(t.tpot_ns.max, Some(80 * MS / 11));
}

#[test]
fn tpot_divides_by_the_tokens_that_arrived_less_one() {
    let t = of(vec![request().content([10, 20, 40]).usage(1, 3).build()]);
    assert_eq!(t.tpot_ns.max, Some(15 * MS));
    // The end-of-sequence token that is never sent is generated, but not waited for.
    let t = of(vec![request().content([10, 20, 40]).finish("stop").usage(1, 4).build()]);
    assert_eq!((t.tpot_ns.max, t.output_tokens), (Some(15 * MS), Some(4)));
}

#[test]
fn one_chunk_has_no_tpot_however_many_tokens_it_holds() {
    let t = of(vec![request().content_with_tokens([(10, 8)]).usage(1, 8).build()]);
    assert_eq!((t.tpot_ns.count, t.decode_tokens_per_s), (0, None));
    assert_eq!(t.tpot_ns.reason.as_deref(), Some("no answer had two tokens"));
}

#[test]
fn rates_divide_by_the_window_and_decode_by_the_streams() {
    let t = of(vec![
        request().content([100, 200, 300]).usage(1, 3).done(500).build(),
        request().sent(500).content([800, 900, 1_000]).usage(1, 3).done(1_000).build(),
    ]);
    assert_eq!(t.window_ns, Some(1_000 * MS));
    assert_eq!((t.output_tokens, t.output_tokens_per_s), (Some(6), Some(6.0)));
    assert_eq!(t.requests_per_s, Some(2.0));
    // 2 + 2 gaps in 200 + 200 ms.
    assert_eq!(t.decode_tokens_per_s, Some(10.0));
    assert_eq!((t.e2e_ns.count, t.e2e_ns.max), (2, Some(500 * MS)));
}

#[test]
fn failed_and_warm_up_requests_are_in_no_distribution_and_no_sum() {
    let t = of(vec![
        request().warmup().content([900, 990]).usage(1, 2).build(),
        request().content([10, 20]).usage(1, 2).build(),
        request().content([700, 800]).usage(1, 2).failed(FailureKind::Disconnect, "closed").build(),
    ]);
    for d in [&t.ttft_ns, &t.ttfo_ns, &t.inter_chunk_ns, &t.inter_token_ns, &t.tpot_ns, &t.e2e_ns] {
        assert_eq!(d.count, 1);
        assert!(d.max <= Some(20 * MS));
    }
    assert_eq!((t.output_tokens, t.token_chunks), (Some(2), 2));
}

#[test]
fn nothing_that_worked_leaves_every_figure_null_with_the_reason() {
    let t = of(vec![request().failed(FailureKind::Connect, "refused").done(5).build()]);
    for d in [&t.ttft_ns, &t.inter_chunk_ns, &t.inter_token_ns, &t.tpot_ns, &t.e2e_ns] {
        assert_eq!((d.count, d.p50), (0, None));
        assert_eq!(d.reason.as_deref(), Some(NONE_OK));
    }
    assert_eq!((t.output_tokens, t.output_tokens_per_s), (None, None));
    assert_eq!((t.requests_per_s, t.token_source), (None, None));
}

#[test]
fn one_answer_without_usage_makes_the_sum_one_of_chunks() {
    let t = of(vec![request().content([10, 20]).usage(1, 2).build(), request().content([10, 20]).build()]);
    assert_eq!((t.output_tokens, t.token_source), (Some(4), Some(TokenSource::Chunks)));
    assert!(t.definitions["output_tokens"].contains("ASSUMED"));
}

#[test]
fn stamps_that_go_back_are_zero_and_not_huge() {
    let t = of(vec![request().sent(50).content([40, 30]).usage(1, 2).build()]);
    assert_eq!((t.ttft_ns.max, t.inter_chunk_ns.max), (Some(0), Some(0)));
}
