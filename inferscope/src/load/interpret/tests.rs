use super::*;
use crate::event::ChunkKind::{Content, Other, Reasoning, Tool};
use proptest::prelude::*;

fn held(data: &str) -> EventContent<'_> {
    event(SseEvent { name: b"", data: data.as_bytes() }).unwrap_or_else(|e| panic!("{data}: {}", e.why))
}

fn chunk_of(data: &str) -> Completion<'_> {
    match held(data) {
        EventContent::Chunk(chunk) => chunk,
        other => panic!("{data}: {other:?}"),
    }
}

fn delta(delta: &str) -> (ChunkKind, u32) {
    let data = format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
    let chunk = chunk_of(&data);
    (chunk.first.kind, chunk.first.bytes)
}

#[test]
fn only_generated_text_makes_a_chunk_more_than_other() {
    for (text, kind, bytes) in [
        (r#"{"role":"assistant","content":null}"#, Other, 0),
        (r#"{"role":"assistant","content":""}"#, Other, 0),
        ("{}", Other, 0),
        ("null", Other, 0),
        (r#"{"content":"hé"}"#, Content, 3),
        (r#"{"content":"a\nb😀"}"#, Content, 7),
        (
            r#"{"content":[{"type":"text","text":"ab"},{"type":"thinking","thinking":[{"type":"text","text":"c"}]}]}"#,
            Content,
            3,
        ),
        // Magistral's way to think.
        (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"abc"}]}]}"#, Reasoning, 3),
        (r#"{"reasoning":"abc","reasoning_details":[{"type":"reasoning.text","text":"abc"}]}"#, Reasoning, 3),
        (r#"{"refusal":"no"}"#, Content, 2),
        (r#"{"content":null,"reasoning_content":"abc"}"#, Reasoning, 3),
        (r#"{"reasoning":"abc"}"#, Reasoning, 3),
        (r#"{"reasoning":"abc","reasoning_content":"abc"}"#, Reasoning, 3),
        (r#"{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":""}}]}"#, Tool, 1),
        (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}"#, Tool, 4),
        (r#"{"tool_calls":[{"index":0}]}"#, Other, 0),
        (r#"{"tool_calls":[]}"#, Other, 0),
        (r#"{"tool_calls":null}"#, Other, 0),
        (r#"{"function_call":{"name":"f","arguments":"x"}}"#, Tool, 2),
        // Of a type that nobody writes: as if absent.
        (r#"{"content":7,"reasoning":false,"tool_calls":"x"}"#, Other, 0),
    ] {
        assert_eq!(delta(text), (kind, bytes), "{text}");
    }
}

#[test]
fn a_chunk_of_several_kinds_is_content_before_tool_before_reasoning() {
    assert_eq!(delta(r#"{"content":"a","reasoning":"bc"}"#), (Content, 3));
    let tool = r#""tool_calls":[{"function":{"arguments":"x"}}]"#;
    assert_eq!(delta(&format!(r#"{{"reasoning":"bc",{tool}}}"#)), (Tool, 3));
    assert_eq!(delta(&format!(r#"{{"content":"a",{tool}}}"#)), (Content, 2));
}

#[test]
fn the_completions_api_and_whole_messages_are_understood() {
    assert_eq!(chunk_of(r#"{"choices":[{"text":"ab","index":0,"logprobs":null}]}"#).first.bytes, 2);
    assert_eq!(chunk_of(r#"{"choices":[{"message":{"role":"assistant","content":"ab"}}]}"#).first.bytes, 2);
}

#[test]
fn one_text_under_several_names_counts_once() {
    let of = |choice: &str| {
        let data = format!(r#"{{"choices":[{choice}]}}"#);
        let chunk = chunk_of(&data);
        (chunk.first.kind, chunk.first.bytes)
    };
    assert_eq!(of(r#"{"text":"ab","delta":{"content":"ab"}}"#), (Content, 2), "Together");
    assert_eq!(of(r#"{"text":"","delta":{"reasoning":"ab"}}"#), (Reasoning, 2));
    let so_far = r#""message":{"role":"assistant","content":"all up to here"}"#;
    assert_eq!(of(&format!(r#"{{{so_far},"delta":{{"content":"ab"}}}}"#)), (Content, 2), "Perplexity");
    assert_eq!(of(&format!(r#"{{{so_far},"delta":{{"content":""}},"finish_reason":"stop"}}"#)), (Other, 0));
    assert_eq!(of(&format!(r#"{{{so_far},"delta":null}}"#)), (Content, 14));
    assert_eq!(of(r#"{"text":"ab","delta":{}}"#), (Content, 2));
}

#[test]
fn a_finish_reason_without_a_word_is_none() {
    for (reason, finished) in [(r#""stop""#, 1), (r#""""#, 0), (r#""null""#, 0), ("null", 0), ("7", 0)] {
        let data = format!(r#"{{"choices":[{{"delta":{{"content":"a"}},"finish_reason":{reason}}}]}}"#);
        let chunk = chunk_of(&data);
        assert_eq!((chunk.finished, chunk.finish_reason.is_some()), (finished, finished == 1), "{reason}");
    }
}

#[test]
fn several_choices_are_parts_of_their_own_and_finish_each_for_itself() {
    let chunk = chunk_of(
        r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"index":2,"delta":{"content":"bc"},"finish_reason":"stop"},{"index":900,"delta":{}}]}"#,
    );
    let parts: Vec<_> = chunk.parts().map(|p| (p.choice.unwrap().index(), p.kind, p.bytes)).collect();
    assert_eq!(parts, [(0, Content, 1), (2, Content, 2), (255, Other, 0)]);
    assert_eq!((chunk.choices, chunk.finished, chunk.stopped), (0b101 | 1 << 63, 0b100, 0b100));
    assert_eq!(chunk.finish_reason.as_deref(), Some("stop"));
}

#[test]
fn usage_and_model_are_taken_and_what_is_no_count_is_unknown() {
    let chunk = chunk_of(
        r#"{"model":"m/x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3.0,"total_tokens":10},"timings":{"x":1}}"#,
    );
    assert_eq!(
        chunk.usage,
        Some(Usage { prompt_tokens: Some(7), completion_tokens: Some(3), ..Usage::default() })
    );
    assert!(matches!(chunk.model, Some(Cow::Borrowed("m/x"))));
    let usage = |text: &str| chunk_of(&format!(r#"{{"choices":[],"usage":{text}}}"#)).usage;
    assert_eq!(usage("null"), None);
    let prompt_alone = Some(Usage { prompt_tokens: Some(7), ..Usage::default() });
    assert_eq!(usage(r#"{"prompt_tokens":-1,"completion_tokens":"3"}"#), None);
    assert_eq!(usage(r#"{"prompt_tokens":7,"completion_tokens":0}"#), prompt_alone, "not counted yet");
    assert_eq!(usage(r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#), None);
    assert_eq!(usage("{}"), None);
    let thought = |details: &str| {
        usage(&format!(r#"{{"completion_tokens":9,"completion_tokens_details":{details}}}"#))
            .unwrap()
            .reasoning_tokens
    };
    assert_eq!(thought(r#"{"audio_tokens":1,"reasoning_tokens":5}"#), Some(5));
    for none in ["null", "{}", "7", "[]", r#""x""#, r#"{"reasoning_tokens":-5}"#] {
        assert_eq!(thought(none), None, "{none}");
    }
}

#[test]
fn an_error_is_found_whatever_its_shape() {
    for (data, said) in [
        (r#"{"error":{"message":"m","code":500}}"#, "m"),
        (r#"{"error":"m"}"#, "m"),
        (r#"{"error":{"code":500}}"#, r#"{"code":500}"#),
        (r#"{"error":{"message":"m"},"choices":[]}"#, "m"),
        (r#"{"object":"error","message":"m","code":400}"#, "m"),
        (r#"{"object":"error"}"#, "the server gave no message"),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, "m"),
        (r#"{"detail":"m"}"#, "m"),
        (r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, "m"),
        (
            r#"{"choices":[{"delta":{"content":""},"error":{"code":502,"message":"m"},"finish_reason":"error"}]}"#,
            "m",
        ),
    ] {
        assert_eq!(held(data), EventContent::Error(said.into()), "{data}");
    }
    let named = |data: &'static [u8]| event(SseEvent { name: b"error", data });
    assert_eq!(named(br#"{"message":"m"}"#), Ok(EventContent::Error("m".into())));
    assert_eq!(named(b"plain words"), Ok(EventContent::Error("plain words".into())));
    assert!(matches!(held(r#"{"error":null,"choices":[]}"#), EventContent::Chunk(_)));
    assert!(matches!(held(r#"{"error":"","choices":[]}"#), EventContent::Chunk(_)));
}

#[test]
fn done_and_pings_are_no_chunks() {
    assert_eq!(held("[DONE]"), EventContent::Done);
    assert_eq!(held(" [DONE] "), EventContent::Done);
    for nothing in ["", " ", r#"{"type":"ping"}"#, r#"{"choices":null}"#] {
        assert_eq!(held(nothing), EventContent::Nothing, "{nothing:?}");
    }
    assert_eq!(event(SseEvent { name: b"ping", data: b"12:00:01" }), Ok(EventContent::Nothing));
}

#[test]
fn what_is_no_object_is_not_understood_and_quoted() {
    for data in
        ["hello", "7", "null", "{\"choices\":7}", "{\"choices\":[{}", "[1]x", "[[]]", "{\"a\":\"\u{1}\"}"]
    {
        let error = event(SseEvent { name: b"", data: data.as_bytes() }).unwrap_err();
        assert!(error.why.contains("no completion object"), "{data}: {}", error.why);
        assert_eq!(error.truncated, data == "{\"choices\":[{}", "{data}");
    }
}

#[test]
fn a_character_cut_in_two_between_events_does_not_fail_the_request() {
    let mut data = br#"{"model":"m","choices":[{"delta":{"content":"a"#.to_vec();
    data.extend_from_slice(&"😀".as_bytes()[..2]);
    data.extend_from_slice(br#""},"finish_reason":"stop"}]}"#);
    let Ok(EventContent::Chunk(chunk)) = event(SseEvent { name: b"", data: &data }) else { panic!() };
    assert_eq!((chunk.first.kind, chunk.finish_reason.as_deref()), (Content, Some("stop")));
}

#[test]
fn half_a_pair_of_escapes_does_not_fail_the_request() {
    let bytes =
        |text: &str| chunk_of(&format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#)).first.bytes;
    assert_eq!(bytes(r"a\\ud83d"), 7, "no escape, but a backslash and letters");
    assert_eq!(bytes(r"a\\ud83d\ud83d"), 7 + 3);
    assert_eq!(bytes(r"\ud83d\ude00"), 4);
    assert_eq!(bytes(r"a\ud83d"), 4);
    assert_eq!(bytes(r"\ude00\ud83d\ud83d\ude00\n"), 3 + 3 + 4 + 1);
    assert!(event(SseEvent { name: b"", data: br#"{"choices":"\ud83d"}"# }).is_err());
}

fn tokens(stream: &[(&str, Option<u64>)]) -> Vec<Option<u32>> {
    let mut count = TokenCount::default();
    let of = |(text, usage): &(&str, Option<u64>)| {
        let usage = usage.map_or("null".to_owned(), |n| format!(r#"{{"completion_tokens":{n}}}"#));
        let choices =
            if *text == "-" { "[]".into() } else { format!(r#"[{{"delta":{{"content":"{text}"}}}}]"#) };
        let data = format!(r#"{{"choices":{choices},"usage":{usage}}}"#);
        count.of(&chunk_of(&data))
    };
    stream.iter().map(of).collect()
}

#[test]
fn continuous_usage_gives_the_tokens_of_each_chunk() {
    let stream = [
        ("", Some(0)),
        ("a", Some(1)),
        ("b", Some(5)),
        ("", Some(6)),
        ("c", Some(7)),
        ("", Some(7)),
        ("-", Some(7)),
    ];
    assert_eq!(tokens(&stream), [None, Some(1), Some(4), None, Some(2), None, None]);
}

#[test]
fn usage_of_the_whole_answer_is_no_chunks_usage() {
    assert_eq!(tokens(&[("a", None), ("b", None), ("-", Some(2))]), [None, None, None]);
    assert_eq!(tokens(&[("a", None), ("b", Some(2))]), [None, None], "with the last text");
    assert_eq!(
        tokens(&[("a", Some(1)), ("b", None), ("c", Some(3)), ("d", Some(4))]),
        [Some(1), None, None, Some(1)]
    );
    assert_eq!(tokens(&[("all of it", Some(9))]), [Some(9)], "one chunk is the whole answer");
}

#[test]
fn a_server_that_counts_nothing_tells_no_tokens() {
    assert_eq!(tokens(&[("a", Some(0)), ("b", Some(0)), ("c", Some(3)), ("-", Some(3))]), [None; 4]);
}

#[test]
fn the_count_of_each_choice_grows_by_itself() {
    let mut count = TokenCount::default();
    let mut of = |choices: &[u32], so_far: u32| {
        let text = |choice| format!(r#"{{"index":{choice},"delta":{{"content":"a"}}}}"#);
        let choices: Vec<String> = choices.iter().map(text).collect();
        let data =
            format!(r#"{{"choices":[{}],"usage":{{"completion_tokens":{so_far}}}}}"#, choices.join(","));
        count.of(&chunk_of(&data))
    };
    assert_eq!([of(&[0], 1), of(&[1], 2), of(&[0], 3), of(&[1], 3)], [Some(1), Some(2), Some(2), Some(1)]);
    assert_eq!(of(&[0, 1], 9), None, "one count beside two texts");
    assert_eq!([of(&[0], 10), of(&[0], 11), of(&[1], 12)], [None, Some(1), None]);
}

#[test]
fn a_count_that_goes_back_gives_no_tokens() {
    assert_eq!(tokens(&[("a", Some(5)), ("b", Some(2)), ("c", Some(3))]), [Some(5), None, Some(1)]);
    assert_eq!(tokens(&[("a", Some(u64::MAX))]), [None], "nor does one that no chunk can hold");
}

proptest! {
    #[test]
    fn no_bytes_panic(name in "(error|ping)?", data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = event(SseEvent { name: name.as_bytes(), data: &data });
    }

    #[test]
    fn no_json_panics(data in "[\\[\\]{}:,\"a0]{0,20}", tail in r#"(\{"choices":\[|\{"error":|"content":|"delta":\{|\}|\]){0,8}"#) {
        let _ = event(SseEvent { name: b"", data: format!("{tail}{data}").as_bytes() });
        let _ = event(SseEvent { name: b"", data: format!("{data}{tail}").as_bytes() });
    }
}
