use crate::aggregate::load::request_figures::RequestFigures;
use crate::event::{ChunkKind, FailureKind, RequestLog};
use crate::fixture::{Fixture, LoadLog, RequestBuilder};
use crate::plan::Slo;
use crate::report::model::{self, TokenSource};
use crate::units::Nanos;

const MS: u64 = 1_000_000;

/// As the report shows it.
fn of(requests: Vec<RequestLog>) -> model::Timing {
    let run = Fixture { load: Some(LoadLog { requests }), ..Fixture::profile() };
    run.report().timing.unwrap()
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
    // Nor is it known how many of them came after the first chunk.
    assert_eq!((t.tpot_ns.count, t.decode_tokens_per_s), (0, None));
    assert_eq!(
        t.decode_tokens_per_s_reason.as_deref(),
        Some("how many tokens the first chunk of an answer held is unknown, or all came with it")
    );
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
    assert_eq!(t.tpot_ns.reason.as_deref(), Some("no answer had two chunks with text"));
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
        assert_eq!(d.reason.as_deref(), Some("no measured request succeeded"));
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

#[test]
fn tpot_and_decode_speed_are_of_the_tokens_after_the_first_chunk() {
    // Ten tokens with each chunk, 200 ms apart: 50 a second, where 19 in 200 ms would be 95.
    let t = of(vec![request().content_with_tokens([(100, 10), (300, 10)]).usage(1, 20).build()]);
    assert_eq!((t.decode_tokens_per_s, t.tpot_ns.max), (Some(50.0), Some(20 * MS)));
    // The pause before the first token is no token's.
    let t = of(vec![request().content_with_tokens([(100, 4), (140, 4), (160, 2)]).usage(1, 10).build()]);
    assert_eq!((t.decode_tokens_per_s, t.tpot_ns.max), (Some(100.0), Some(10 * MS)));
}

#[test]
fn the_tokens_of_a_small_first_chunk_are_taken_by_its_part_of_the_text() {
    // 40 chunks of 10 tokens each, 100 ms apart.
    let even = request().content((0..40).map(|n| 50 + n * 100)).usage(1, 400).build();
    let t = of(vec![even]);
    assert_eq!(t.tpot_ns.max, None, "more tokens than bytes of text: not those that arrived");
    let long = |first: u32| {
        let mut r = request().content((0..40).map(|n| 50 + n * 100)).usage(1, 400).build();
        r.chunks.iter_mut().filter(|c| c.kind.has_tokens()).for_each(|c| c.bytes = 40);
        r.chunks[0].bytes = first;
        of(vec![r])
    };
    assert_eq!(long(40).decode_tokens_per_s.map(f64::round), Some(100.0));
    assert_eq!(long(4).decode_tokens_per_s.map(|rate| (rate * 10.0).round()), Some(1023.0));
    assert_eq!(long(200).decode_tokens_per_s, None, "an eighth of the text");
    // A token here or there in nearly as many chunks.
    let t = of(vec![request().content((0..101).map(|n| n * 10)).usage(1, 103).build()]);
    assert_eq!(t.tpot_ns.max, Some(1_000 * MS / 102));
}

/// Two choices side by side, a token each every 20 ms, the second a moment after the first.
fn two_choices() -> RequestBuilder {
    (0..10).fold(request().asked(|asked| asked.choices = 2), |r, n| {
        r.choice(0).content([100 + n * 20]).choice(1).content([101 + n * 20])
    })
}

#[test]
fn each_choice_has_its_own_gaps_and_pace() {
    let t = of(vec![two_choices().usage(1, 20).build()]);
    for d in [&t.inter_chunk_ns, &t.inter_token_ns] {
        assert_eq!((d.count, d.min, d.max), (18, Some(20 * MS), Some(20 * MS)));
    }
    assert_eq!((t.tpot_ns.count, t.tpot_ns.min), (2, Some(20 * MS)));
    assert_eq!(t.decode_tokens_per_s, Some(50.0));
    // What is of the request stays: its first token, all of its tokens.
    assert_eq!((t.ttft_ns.max, t.output_tokens, t.token_chunks), (Some(100 * MS), Some(20), 20));
    // An end-of-sequence token each.
    let t = of(vec![two_choices().finish("stop").finish("stop").usage(1, 22).build()]);
    assert_eq!((t.tpot_ns.count, t.tpot_ns.min, t.output_tokens), (2, Some(20 * MS), Some(22)));
}

#[test]
fn how_a_total_is_split_among_choices_is_unknown_where_chunks_hold_several_tokens() {
    let t = of(vec![two_choices().usage(1, 60).build()]);
    assert_eq!((t.tpot_ns.count, t.inter_token_ns.count, t.decode_tokens_per_s), (0, 0, None));
    assert_eq!((t.inter_chunk_ns.count, t.output_tokens), (18, Some(60)));
}

#[test]
fn a_count_of_all_choices_with_each_chunk_is_no_choices_own() {
    // Two tokens a chunk: 2, 4, 6, … over both, of which each choice would have had all.
    let mut r = two_choices().usage(1, 40).build();
    for (n, chunk) in (1u32..).zip(r.chunks.iter_mut().filter(|c| c.kind.has_tokens())) {
        // As the difference to the choice's own chunk before.
        chunk.tokens = Some(if n <= 2 { 2 * n } else { 4 });
    }
    let t = of(vec![r.clone()]);
    assert_eq!((t.tpot_ns.count, t.inter_token_ns.count, t.output_tokens), (0, 0, Some(40)));
    // By each choice itself it comes to the total.
    r.chunks.iter_mut().filter(|c| c.kind.has_tokens()).for_each(|c| c.tokens = Some(2));
    let t = of(vec![r]);
    assert_eq!((t.tpot_ns.min, t.inter_token_ns.count), (Some(10 * MS), 36));
}

#[test]
fn a_level_for_gaps_is_of_each_choice() {
    let slo = |itl| Slo { itl: Some(Nanos::from_millis(itl)), ..Slo::default() };
    let r = two_choices().usage(1, 20).build();
    let answer = RequestFigures::of(&r);
    assert!(answer.meets(&slo(20)) && !answer.meets(&slo(19)), "the gap between two choices' chunks is 1 ms");
    let tpot = Slo { tpot: Some(Nanos::from_millis(15)), ..Slo::default() };
    assert!(!answer.meets(&tpot));
}

#[test]
fn what_came_with_the_first_chunk_is_not_after_it() {
    // Ten chunks a flush, 200 ms apart: 50 tokens a second, where 19 in 200 ms would be 95.
    let t = of(vec![request().content((0..20).map(|n| 100 + n / 10 * 200)).usage(1, 20).build()]);
    assert_eq!((t.decode_tokens_per_s, t.tpot_ns.max), (Some(50.0), Some(20 * MS)));
    let at_once = of(vec![request().content([300; 20]).usage(1, 20).build()]);
    assert_eq!((at_once.decode_tokens_per_s, at_once.tpot_ns.count), (None, 0));
}

/// Tokens every 20 ms from 100 ms on; the client did not look from 200 to 350 ms, and read what came together.
fn stalled() -> RequestLog {
    let at = |n: u64| 100 + n * 20;
    let mut r = request().content((0..20).map(at)).usage(1, 20).done(500).build();
    let (from, to) = (crate::fixture::ms(205), crate::fixture::ms(350));
    for chunk in r.chunks.iter_mut().filter(|c| (from..=to).contains(&c.t)) {
        chunk.t = crate::fixture::ms(340);
    }
    r.client_stalls = vec![crate::event::Stall { from, to }];
    r
}

#[test]
fn a_stall_of_the_client_is_in_no_figure_of_the_server() {
    let t = of(vec![stalled()]);
    for d in [&t.inter_chunk_ns, &t.inter_token_ns] {
        assert_eq!((d.min, d.max), (Some(20 * MS), Some(20 * MS)));
    }
    let out = t.left_out.unwrap();
    // Seven were read together: the gaps between them, and to what was read before and after.
    assert_eq!((out.gaps, out.first_tokens, out.ends, out.longest_stall_ns), (8, 0, 0, 145 * MS));
    assert_eq!(t.inter_chunk_ns.count + out.gaps, 19);
    // From the first to the last token there is nothing unknown.
    assert_eq!((t.tpot_ns.max, t.ttft_ns.max, t.e2e_ns.max), (Some(20 * MS), Some(100 * MS), Some(500 * MS)));
    // The same chunks without a stall are a burst of the server's.
    let mut burst = stalled();
    burst.client_stalls.clear();
    let t = of(vec![burst]);
    assert_eq!((t.inter_chunk_ns.max, t.left_out), (Some(140 * MS), None));
}

#[test]
fn a_wait_of_an_open_loop_is_not_left_out_for_a_small_stall_within_it() {
    let ms = crate::fixture::ms;
    let mut r = request().content([10_100, 10_120]).usage(1, 2).done(10_120).build();
    (r.scheduled, r.sent, r.written) = (Some(ms(0)), ms(10_000), Some(ms(10_000)));
    r.write_took = Some(crate::units::Nanos(30_000));
    // The server's backlog kept it: the longer the wait, the likelier a stall falls into it.
    r.client_stalls = vec![crate::event::Stall { from: ms(5_000), to: ms(5_010) }];
    let t = of(vec![r.clone()]);
    assert_eq!((t.ttft_ns.max, t.left_out), (Some(10_100 * MS), None));
    // The client itself kept it.
    r.client_stalls = vec![crate::event::Stall { from: ms(100), to: ms(10_000) }];
    assert_eq!(of(vec![r]).ttft_ns.count, 0);
}

#[test]
fn a_chunk_that_was_alone_in_its_read_has_its_own_time_however_late() {
    let mut r = request().content([100, 300, 500]).usage(1, 3).done(700).build();
    let stall = |from, to| crate::event::Stall { from: crate::fixture::ms(from), to: crate::fixture::ms(to) };
    r.client_stalls = vec![stall(250, 400)];
    let t = of(vec![r.clone()]);
    assert_eq!((t.inter_chunk_ns.count, t.left_out), (2, None));
    // Not where the kernel does not tell when it came.
    r.kernel_stamps = false;
    assert_eq!(of(vec![r.clone()]).inter_chunk_ns.count, 0);
    // A first token, an end and a sending in a stall.
    r.kernel_stamps = true;
    r.client_stalls = vec![stall(0, 50)];
    r.written = Some(crate::fixture::ms(20));
    // It counts from a write that was made at once.
    r.write_took = Some(crate::units::Nanos(30_000));
    let t = of(vec![r.clone()]);
    assert_eq!((t.ttft_ns.count, t.e2e_ns.count), (1, 1));
    r.write_took = Some(crate::units::Nanos::from_millis(30));
    let t = of(vec![r]);
    assert_eq!((t.ttft_ns.count, t.e2e_ns.count, t.inter_chunk_ns.count), (0, 0, 2));
    assert_eq!(t.left_out.map(|out| (out.first_tokens, out.ends)), Some((1, 1)));
}
