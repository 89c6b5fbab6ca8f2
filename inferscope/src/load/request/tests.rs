use serde_json::{Value, json};

use super::delivered::{CHUNKS_BESIDE_LIMIT, MOST_CHUNKS_A_TOKEN};
use super::*;
use crate::event::Choice;
use crate::event::ChunkKind::{Content, Other};
use crate::plan::{Api, Endpoint, LoadPlan};

fn plan() -> LoadPlan {
    LoadPlan::to(Endpoint::parse("http://127.0.0.1:1").unwrap())
}

fn ask(prompt: Value) -> BodySpec<'static> {
    BodySpec { model: None, prompt, max_tokens: 8, usage_with_each_chunk: false }
}

#[test]
fn the_body_asks_for_a_stream_with_usage() {
    assert_eq!(
        body(&plan(), BodySpec { model: Some("m"), ..ask(json!([{"role": "user", "content": "why?"}])) }),
        json!({
            "model": "m", "messages": [{"role": "user", "content": "why?"}], "max_tokens": 8, "temperature": 0.0,
            "stream": true, "stream_options": {"include_usage": true},
        })
    );
    let each = body(&plan(), BodySpec { usage_with_each_chunk: true, ..ask(Value::Null) });
    assert_eq!(each["stream_options"], json!({"include_usage": true, "continuous_usage_stats": true}));
    let plan = LoadPlan { api: Api::Completions, seed: Some(-7), ignore_eos: true, ..plan() };
    assert_eq!(
        body(&plan, ask("why?".into())),
        json!({
            "prompt": "why?", "max_tokens": 8, "temperature": 0.0, "seed": -7, "ignore_eos": true,
            "stream": true, "stream_options": {"include_usage": true},
        })
    );
}

#[test]
fn extra_body_wins_key_by_key() {
    let Value::Object(extra_body) = json!({"top_p": 0.5, "max_tokens": null, "stream_options": {"x": 1}})
    else {
        panic!()
    };
    let body = body(&LoadPlan { extra_body, ..plan() }, ask(Value::Null));
    assert_eq!((&body["top_p"], &body["max_tokens"]), (&json!(0.5), &Value::Null));
    assert_eq!((&body["stream_options"], &body["stream"]), (&json!({"x": 1}), &json!(true)));
}

const SLOT: Slot = Slot { id: 3, warmup: true, scheduled: None };

/// A request sent at 100 whose pieces are read at 200, 210, …, and which ends at 900.
fn answered(pieces: &[&str], end: End) -> RequestLog {
    let mut state = RequestState::new(SLOT, Mono(100), Asked::tokens(8));
    state.headers(Mono(150), 200);
    for (i, piece) in pieces.iter().enumerate() {
        if state.read(Mono(200 + 10 * i as u64), piece.as_bytes()) != Wanted::More {
            break;
        }
    }
    state.finish(Mono(900), end)
}

fn failed(pieces: &[&str]) -> (FailureKind, String) {
    let failure = answered(pieces, End::Eof).failure.unwrap_or_else(|| panic!("{pieces:?} did not fail"));
    assert!(!failure.message.contains('\n'));
    (failure.kind, failure.message)
}

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"model\":\"m\"}\n\n";
const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ab\"}}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn a_whole_stream_is_logged_with_its_stamps() {
    let log = answered(&[ROLE, TEXT, FINISH, USAGE, DONE], End::Eof);
    assert_eq!(log.failure, None);
    assert_eq!(
        (log.id, log.warmup, log.sent, log.headers, log.http_status),
        (3, true, Mono(100), Some(Mono(150)), Some(200))
    );
    let first = Some(Choice::FIRST);
    let chunk = |t, bytes, kind, choice| Chunk { t: Mono(t), bytes, tokens: None, kind, choice };
    assert_eq!(
        log.chunks,
        [
            chunk(200, 0, Other, first),
            chunk(210, 2, Content, first),
            chunk(220, 0, Other, first),
            chunk(230, 0, Other, None)
        ]
    );
    assert_eq!(log.done, Mono(240), "the read that held [DONE], not the connection's end");
    assert_eq!(
        log.usage,
        Some(Usage { prompt_tokens: Some(4), completion_tokens: Some(1), reasoning_tokens: None })
    );
    assert_eq!((log.finish_reason.as_deref(), log.served_model.as_deref()), (Some("length"), Some("m")));
}

#[test]
fn an_event_has_the_stamp_of_the_read_that_completed_it() {
    let (head, tail) = TEXT.split_at(20);
    let log = answered(&[head, tail, FINISH, DONE], End::Eof);
    assert_eq!(log.chunks[0].t, Mono(210));
}

#[test]
fn a_stream_without_done_is_complete_where_every_choice_was_finished() {
    let log = answered(&[ROLE, TEXT, FINISH], End::Eof);
    assert_eq!((log.failure, log.done), (None, Mono(220)), "done is the last read");
    let cut = End::Failed(Failure { kind: FailureKind::Disconnect, message: "x".into() });
    assert_eq!(answered(&[TEXT, FINISH], cut).failure, None, "also where the connection broke");
    let other = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n";
    assert_eq!(failed(&[TEXT, other, FINISH]).0, FailureKind::Disconnect);
    // The last event lacks its blank line.
    let log = answered(&[TEXT, FINISH.trim_end()], End::Eof);
    assert_eq!((log.failure, log.chunks[1].t), (None, Mono(210)), "its stamp is its read's, not the end's");
}

#[test]
fn what_comes_after_done_is_ignored() {
    let log = answered(&[TEXT, "data: [DONE]\n\ndata: garbage\n\n", "garbage"], End::Eof);
    assert_eq!((log.failure, log.done), (None, Mono(210)));
    let late = End::Failed(Failure { kind: FailureKind::Timeout, message: "x".into() });
    assert_eq!(answered(&[TEXT, DONE], late).failure, None, "a timeout too");
}

#[test]
fn a_broken_answer_is_a_failure_of_its_kind() {
    use FailureKind::{Disconnect, Empty, Malformed, ServerError};
    let long = format!("data: {}", "x".repeat(LIMIT_BYTES));
    let long_document = format!("{{\"a\":\"{}", "x".repeat(LIMIT_BYTES));
    let cases: &[(&[&str], FailureKind, &str)] = &[
        (&[], Empty, "no body"),
        (&["\n\n"], Malformed, "no event stream"),
        (&[ROLE, FINISH, DONE], Empty, "finish_reason: length"),
        (&[DONE], Empty, "finish_reason: none"),
        (&[ROLE, TEXT], Disconnect, "without a finish_reason or [DONE]"),
        (&[TEXT, "data: {\"choices\":[{\"del"], Disconnect, "without a finish_reason"),
        (
            &[TEXT, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", DONE],
            ServerError,
            "out of memory",
        ),
        (&[TEXT, "error: {\"message\":\"slot lost\"}\n\n"], ServerError, "slot lost"),
        (&[TEXT, "data: garbage\n\n"], Malformed, "garbage"),
        (&["<html><body>hello"], Malformed, "no event stream: <html><body>hello"),
        (&[": ping\n\n", ": ping\n\n"], Malformed, "no event stream"),
        (&["\u{0}\u{1}\u{2}"], Malformed, "no event stream"),
        (&[&long], Malformed, "a line of the stream is longer"),
        (&[&long_document], Malformed, "one document of more than"),
        (
            &["{\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}"],
            Malformed,
            "one JSON document instead of a stream",
        ),
        (&["{\"error\":{\"message\":\"no stream here\"}}"], ServerError, "no stream here"),
        (&["{\"detail\":\"nothing here\"}"], ServerError, "nothing here"),
        (&["{\"status\":7}"], Malformed, "no completion"),
        (&["{\"message\"", ":{\"content\":\"a\"}}\n{\"done\":true}\n"], Malformed, "no event stream"),
        (&["{\"choices\":[{\"mess"], Disconnect, "cut off"),
        (&["[1,2]"], Malformed, "no event stream: [1,2]"),
    ];
    for (pieces, kind, said) in cases {
        let (got, message) = failed(pieces);
        assert!(got == *kind && message.contains(said), "{pieces:.80?}: {got:?}, {message}");
        assert!(message.len() < 600, "{message}");
    }
}

#[test]
fn a_failed_request_keeps_what_it_received() {
    let log = answered(&[ROLE, TEXT, "data: garbage\n\n"], End::Eof);
    assert_eq!((log.chunks.len(), log.done, log.served_model.as_deref()), (2, Mono(900), Some("m")));
    let interrupted = Failure { kind: FailureKind::Interrupted, message: "interrupted".into() };
    let log = answered(&[ROLE, TEXT], End::Failed(interrupted.clone()));
    assert_eq!((log.failure, log.chunks.len()), (Some(interrupted), 2));
    let document = "{\"model\":\"m\",\"choices\":[{\"message\":{\"content\":\"hi\"}}],\"usage\":{\"completion_tokens\":2}}";
    let log = answered(&[document], End::Eof);
    assert_eq!((log.chunks.len(), log.usage.and_then(|u| u.completion_tokens)), (0, Some(2)));
}

#[test]
fn room_for_the_chunks_is_made_before_and_given_back_after() {
    let state = RequestState::new(SLOT, Mono(0), Asked::tokens(128));
    assert!(state.delivered.chunks.capacity() >= 128 + CHUNKS_BESIDE_TOKENS);
    let mut state = RequestState::new(SLOT, Mono(0), Asked::tokens(u64::MAX));
    assert_eq!(state.delivered.chunks.capacity(), PREALLOCATED_CHUNKS);
    state.read(Mono(1), TEXT.as_bytes());
    assert!(state.finish(Mono(2), End::Eof).chunks.capacity() < 64);
}

#[test]
fn what_is_asked_is_read_off_the_body_that_is_sent() {
    let of = |body: Value| asked(&body, 77);
    let one = Asked { max_tokens: Some(8), choices: 1, body_bytes: 77, attachments: 0 };
    assert_eq!(of(json!({"max_tokens": 8, "messages": [{"content": "x"}]})), one);
    assert_eq!(of(json!({"max_tokens": null, "n": 0})), Asked { max_tokens: None, ..one });
    assert_eq!(of(json!({"max_completion_tokens": 8, "max_tokens": 2, "n": 3})), Asked { choices: 3, ..one });
    assert_eq!(of(json!({"max_tokens": 8, "n": 1, "best_of": 4})), Asked { choices: 4, ..one });
    assert_eq!(of(json!({"max_tokens": 8, "n": 2, "prompt": ["a", "b", "c"]})), Asked { choices: 6, ..one });
    assert_eq!(of(json!({"max_tokens": 8, "prompt": [1, 2, 3]})), one);
    let parts = json!([{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "u"}}]);
    assert_eq!(
        of(json!({"max_tokens": 8, "messages": [{"content": parts}]})),
        Asked { attachments: 1, ..one }
    );
}

const BOTH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}},{\"index\":1,\"delta\":{\"content\":\"bc\"}}]}\n\n";

#[test]
fn an_event_of_two_choices_is_a_chunk_of_each() {
    let log = answered(&[BOTH, DONE], End::Eof);
    let chunks: Vec<_> =
        log.chunks.iter().map(|c| (c.t, c.choice.unwrap().index(), c.bytes, c.kind)).collect();
    assert_eq!(chunks, [(Mono(200), 0, 1, Content), (Mono(200), 1, 2, Content)]);
}

#[test]
fn a_count_beside_each_of_several_choices_is_no_total() {
    let counted = |choice: u32, so_far: u32, finish: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{choice},\"delta\":{{\"content\":\"a\"}},\"finish_reason\":{finish}}}],\"usage\":{{\"prompt_tokens\":4,\"completion_tokens\":{so_far}}}}}\n\n"
        )
    };
    let (a, b) = (counted(0, 1, "null"), counted(1, 1, "\"stop\""));
    let last = counted(0, 2, "\"stop\"");
    let usage = |pieces: &[&str]| answered(pieces, End::Eof).usage.unwrap();
    let log = usage(&[&a, &b, &last, DONE]);
    assert_eq!((log.completion_tokens, log.prompt_tokens), (None, Some(4)));
    assert_eq!(
        usage(&[&a, &b, &last, USAGE, DONE]).completion_tokens,
        Some(1),
        "the last word is the answer's"
    );
    assert_eq!(usage(&[BOTH, &last, DONE]).completion_tokens, Some(2), "told once");
    assert_eq!(answered(&[&a, &b, &last, DONE], End::Eof).stops, 2);
}

#[test]
fn a_server_that_goes_on_far_beyond_max_tokens_is_cut_off() {
    let mut state = RequestState::new(SLOT, Mono(100), Asked::tokens(8));
    let within = (0..8 * MOST_CHUNKS_A_TOKEN + CHUNKS_BESIDE_LIMIT).all(|n| {
        let reasoning = TEXT.replace("content", "reasoning");
        let thinks = state.read(Mono(150), reasoning.as_bytes()) == Wanted::More;
        thinks && state.read(Mono(200 + n), TEXT.as_bytes()) == Wanted::More
    });
    assert!(within, "cut into characters, and thought is beside the limit");
    assert_eq!(state.read(Mono(900), TEXT.as_bytes()), Wanted::Failed);
    let failure = state.finish(Mono(900), End::Eof).failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Overrun);
    assert!(failure.message.contains("129 chunks") && failure.message.contains("8 tokens"), "{failure:?}");

    let mut state = RequestState::new(SLOT, Mono(100), Asked::tokens(1));
    let long = TEXT.replace("ab", &"x".repeat(60_000));
    assert_eq!(state.read(Mono(200), long.as_bytes()), Wanted::More);
    assert_eq!(state.read(Mono(210), long.as_bytes()), Wanted::Failed);
    let mut state = RequestState::new(SLOT, Mono(100), Asked { max_tokens: None, ..Asked::tokens(1) });
    assert!((0..20).all(|_| state.read(Mono(200), long.as_bytes()) == Wanted::More));
}

#[test]
fn the_room_that_a_request_takes_grows_with_its_chunks_a_line_and_a_document() {
    let slot = Slot { id: 1, warmup: false, scheduled: None };
    let state = || RequestState::new(slot, Mono(1), Asked::tokens(1));
    let least = state().room();
    let mut flooded = state();
    let event = b"data: {\"choices\":[{\"delta\":{\"reasoning\":\"x\"}}]}\n\n";
    flooded.read(Mono(2), &event.repeat(10_000));
    assert!(flooded.room() >= least + 10_000 * size_of::<Chunk>() as u64, "{}", flooded.room());
    for begin in [&b"data: "[..], b"{"] {
        let mut endless = state();
        endless.read(Mono(2), begin);
        endless.read(Mono(3), &[b'x'; 100_000]);
        assert!(endless.room() >= least + 100_000, "{}", endless.room());
    }
}
