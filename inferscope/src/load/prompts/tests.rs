use std::collections::HashSet;

use proptest::prelude::*;

use super::wordlist::WORDS;
use super::*;

fn dataset(file: &str) -> Prompts {
    Prompts::dataset(file.as_bytes()).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn fault(file: &str) -> (Location, Fault) {
    match Prompts::dataset(file.as_bytes()) {
        Err(PromptError::At { location, fault }) => (location, fault),
        other => panic!("{file}: {other:?}"),
    }
}

/// The words of a made prompt.
fn words(prompts: &Prompts, id: u64) -> Vec<String> {
    prompts.get(id).plain().split(' ').map(str::to_owned).collect()
}

#[test]
fn one_text_is_asked_again_and_again() {
    let prompts = Prompts::one("why?");
    assert_eq!(prompts.get(7).chat(), json!([{"role": "user", "content": "why?"}]));
    assert_eq!(prompts.get(7).plain(), "why?");
    assert_eq!((prompts.len(), prompts.again(9), prompts.timed()), (Some(1), 0, None));
}

#[test]
fn a_files_lines_are_asked_in_turn_and_begin_again() {
    let prompts = Prompts::lines("\u{feff}a\r\n\n  \n b \nc".as_bytes()).unwrap();
    let asked: Vec<String> = (0..4).map(|id| prompts.get(id).plain()).collect();
    assert_eq!(asked, ["a", " b ", "c", "a"]);
    assert_eq!((prompts.len(), prompts.again(2), prompts.again(3), prompts.again(7)), (Some(3), 0, 0, 4));
    assert_eq!(prompts.timed(), None);
}

#[test]
fn lines_that_are_no_prompts_are_named() {
    assert_eq!(Prompts::lines(b" \n\r\n").unwrap_err(), PromptError::Empty);
    let error = Prompts::lines(b"a\nb\xff\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2: its byte 2 is not UTF-8\n  save the file as UTF-8");
    let long = [b"a\n".as_slice(), &vec![b'x'; LONGEST_BYTES + 1]].concat();
    let too_long = PromptError::At { location: Location::Line(2), fault: Fault::TooLong };
    assert_eq!(Prompts::lines(&long).unwrap_err(), too_long);
    assert_eq!(
        Prompts::dataset(&long[2..]).unwrap_err().to_string().lines().next(),
        Some("line 1: it is longer than 16777216 bytes")
    );
    assert_eq!(Prompts::lines(&b"a\n".repeat(MOST_PROMPTS + 1)).unwrap_err(), PromptError::TooMany);
    assert_eq!(Prompts::lines(&b"a\n".repeat(MOST_PROMPTS)).unwrap().len(), Some(MOST_PROMPTS as u64));
}

#[test]
fn every_form_of_a_data_sets_entry_is_asked() {
    for (entry, messages, plain) in [
        (r#"{"messages":[{"role":"user","content":"a"}]}"#, json!([["user", "a"]]), "a"),
        (
            r#"{"id":[{}],"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#,
            json!([["system", "s"], ["user", "a"]]),
            "s\n\na",
        ),
        (
            r#"{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"},{"from":"human","value":"c"},{"from":"gpt","value":"d"}]}"#,
            json!([["user", "a"], ["assistant", "b"], ["user", "c"]]),
            "a\n\nb\n\nc",
        ),
        (
            r#"{"conversation":[{"role":"assistant","content":"hi"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"assistant","content":"c"}]}"#,
            json!([["user", "a"]]),
            "a",
        ),
        (r#"{"prompt":"a\nb"}"#, json!([["user", "a\nb"]]), "a\nb"),
        (r#"{"text":"é","prompt":null}"#, json!([["user", "é"]]), "é"),
    ] {
        let wanted: Vec<Value> =
            messages.as_array().unwrap().iter().map(|m| json!({"role": m[0], "content": m[1]})).collect();
        for file in [entry.to_owned(), format!("\u{feff}\n {entry} \n\n"), format!("\n[{entry},{entry}]\n")] {
            let prompts = dataset(&file);
            let prompt = prompts.get(0);
            assert_eq!((prompt.chat(), prompt.plain()), (json!(wanted), plain.to_owned()), "{file}");
            assert_eq!((prompt.max_tokens, prompt.at), (None, None), "{file}");
        }
    }
}

#[test]
fn a_message_keeps_what_else_it_holds() {
    let message = json!({"role": "user", "name": "n", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "b"}]});
    let prompts = dataset(&json!({"messages": [message]}).to_string());
    assert_eq!(prompts.get(0).chat(), json!([message]));
    assert_eq!(prompts.get(0).plain(), "a\n\nb");
}

#[test]
fn an_entry_may_limit_its_answer() {
    let limits = |fields: &str| dataset(&format!(r#"{{"prompt":"a",{fields}}}"#)).get(0).max_tokens;
    assert_eq!(limits(r#""max_tokens":7"#), Some(7));
    assert_eq!(limits(r#""max_completion_tokens":8,"max_tokens":null"#), Some(8));
    assert_eq!(limits(r#""output_length":9"#), Some(9));
    for wrong in ["0", "-1", "1.5", "\"8\"", "4294967296"] {
        let (_, fault) = fault(&format!(r#"{{"prompt":"a","max_tokens":{wrong}}}"#));
        assert!(matches!(fault, Fault::Field { field: "max_tokens", .. }), "{wrong}: {fault}");
    }
}

#[test]
fn entries_without_a_question_are_passed_over_and_counted() {
    let prompts = dataset(
        r#"[{"conversations":[]},{"prompt":" "},{"prompt":"a"},{"messages":[{"role":"assistant","content":"x"}]},{"messages":[{"role":"system","content":"x"}]}]"#,
    );
    assert_eq!((prompts.len(), prompts.passed_over(), prompts.get(0).plain()), (Some(1), 4, "a".to_owned()));
    assert_eq!(Prompts::dataset(b"{\"conversations\":[]}\n").unwrap_err(), PromptError::Empty);
    assert_eq!(Prompts::dataset(b"[]").unwrap_err(), PromptError::Empty);
    assert_eq!(Prompts::dataset(b"").unwrap_err(), PromptError::Empty);
}

#[test]
fn what_is_no_entry_is_named_with_its_place() {
    let line = Location::Line(2);
    let of = |entry: &str| fault(&format!("{{\"prompt\":\"a\"}}\n{entry}\n"));
    assert_eq!(of("{}"), (line, Fault::NoPrompt));
    assert_eq!(of(r#"{"question":"a"}"#), (line, Fault::NoPrompt));
    for json in ["hello", "7", "[]", "{", r#"{"prompt":"a"} {"prompt":"b"}"#, &r#"{"prompt":"#.repeat(500)] {
        let (location, fault) = of(json);
        assert!(location == line && matches!(fault, Fault::NoObject { .. }), "{json}: {fault}");
    }
    for (entry, name) in [
        (r#"{"messages":"a"}"#, "messages"),
        (r#"{"messages":["a"]}"#, "messages"),
        (r#"{"messages":[{"content":"a"}]}"#, "messages"),
        (r#"{"conversations":[{"from":"human"}]}"#, "conversations"),
        (r#"{"conversations":{}}"#, "conversations"),
        (r#"{"prompt":["a"]}"#, "prompt"),
        (r#"{"input_length":0}"#, "input_length"),
        (r#"{"input_length":9,"hash_ids":["x"]}"#, "hash_ids"),
    ] {
        let (location, fault) = of(entry);
        assert!(
            location == line && matches!(fault, Fault::Field { field, .. } if field == name),
            "{entry}: {fault}"
        );
    }
    assert_eq!(
        of(r#"{"conversations":[{"from":"tool","value":"a"}]}"#),
        (line, Fault::Turn { who: "tool".into() })
    );
    assert_eq!(of(r#"{"input_length":10000001}"#), (line, Fault::TooManyTokens { tokens: 10_000_001 }));
    assert_eq!(
        of(r#"{"input_length":512,"hash_ids":[1,2]}"#),
        (line, Fault::Blocks { blocks: 2, tokens: 512 })
    );
    assert_eq!(of(r#"{"prompt":"b","timestamp":1}"#), (line, Fault::Timestamp { has: true }));

    assert_eq!(fault("[{\"prompt\":\"a\"},\n{}]").0, Location::Entry(2));
    assert_eq!(fault("[{\"prompt\":\"a\"},\n7]").0, Location::Line(2));
    assert_eq!(fault("\n[{\"prompt\":\"a\"}").0, Location::Line(2));
    assert_eq!(fault("[{\"prompt\":\"a\"}]\n{}").0, Location::Line(2));
    assert_eq!(fault("[[\"positional\"]]").0, Location::Line(1));
}

#[test]
fn every_fault_says_what_to_do() {
    let faults = [
        Fault::NotUtf8 { byte: 1 },
        Fault::TooLong,
        Fault::NoObject { why: "x".into() },
        Fault::NoPrompt,
        Fault::Field { field: "a", wanted: "b" },
        Fault::Turn { who: "x".into() },
        Fault::TooManyTokens { tokens: 1 },
        Fault::Blocks { blocks: 1, tokens: 1 },
        Fault::Timestamp { has: false },
    ];
    let errors = [PromptError::Empty, PromptError::TooMany, PromptError::Scale { words_per_token: 0.0 }];
    let messages = faults.iter().map(ToString::to_string).chain(errors.iter().map(ToString::to_string));
    for message in messages {
        let (what, remedy) = message.split_once("\n  ").unwrap_or_else(|| panic!("{message}"));
        assert!(!what.is_empty() && !remedy.is_empty() && !remedy.contains('\n'), "{message}");
    }
}

#[test]
fn a_traces_requests_come_in_the_order_of_their_timestamps() {
    let prompts = dataset(
        "{\"timestamp\":3000.5,\"input_length\":3,\"output_length\":30}\n{\"timestamp\":1000,\"input_length\":1,\"output_length\":10}\n{\"timestamp\":1000,\"prompt\":\"b\"}\n",
    );
    let at = [Nanos(0), Nanos(0), Nanos(2_000_500_000)];
    assert_eq!(prompts.timed(), Some(at.to_vec()));
    let limits: Vec<Option<u32>> = (0..3).map(|id| prompts.get(id).max_tokens).collect();
    assert_eq!(limits, [Some(10), None, Some(30)]);
    assert_eq!(prompts.get(2).at, Some(at[2]));
    // A date is no time of a trace.
    assert_eq!(dataset(r#"{"prompt":"a","timestamp":"2024-05-01"}"#).timed(), None);
}

#[test]
fn blocks_of_a_trace_are_the_same_text_for_the_same_hash() {
    let prompts = dataset(
        r#"[{"input_length":1100,"hash_ids":[5,6,7]},{"input_length":1400,"hash_ids":[5,8]},{"input_length":600,"hash_ids":[5,6]}]"#,
    );
    let (a, b, c) = (words(&prompts, 0), words(&prompts, 1), words(&prompts, 2));
    assert_eq!((a.len(), b.len(), c.len()), (1100, 1400, 600));
    assert_eq!(a[..512], b[..512]);
    assert_ne!(a[512..520], b[512..520]);
    // The second block, cut short.
    assert_eq!(a[..600], c[..600]);
    // What no block covers is an entry's own.
    let own = dataset(r#"[{"input_length":30},{"input_length":30}]"#);
    assert_ne!(words(&own, 0)[..8], words(&own, 1)[..8]);
}

#[test]
fn made_prompts_differ_from_the_first_word_on() {
    let prompts = Prompts::synthetic(20, 0, 42).unwrap();
    assert_eq!((prompts.len(), prompts.again(1 << 40), prompts.timed()), (None, 0, None));
    for from in [0, 1, 1000, u64::MAX - 300] {
        let first: HashSet<String> = (from..from + 256).map(|id| words(&prompts, id)[0].clone()).collect();
        assert_eq!(first.len(), 256);
    }
    // Beyond the words that there are, the eight first differ as a whole.
    let begins: HashSet<Vec<String>> = (0..20_000).map(|id| words(&prompts, id)[..8].to_vec()).collect();
    assert_eq!(begins.len(), 20_000);
}

#[test]
fn a_shared_prefix_is_the_same_for_all_and_nothing_more_is() {
    let prompts = Prompts::synthetic(30, 10, 1).unwrap();
    let (a, b) = (words(&prompts, 0), words(&prompts, 1));
    assert_eq!((a.len(), b.len()), (30, 30));
    assert_eq!(a[..10], b[..10]);
    assert_ne!(a[10], b[10]);
    let other = Prompts::synthetic(30, 10, 2).unwrap();
    assert_ne!(a[..10], words(&other, 0)[..10], "another seed, another prefix");
}

#[test]
fn made_text_is_the_same_in_every_release() {
    let prompts = Prompts::synthetic(12, 0, 0).unwrap();
    assert_eq!(prompts.get(0).plain(), "list new home every law learn mother plan paper read five same");
}

#[test]
fn a_scale_changes_made_prompts_only() {
    let scaled = |prompts: Prompts| prompts.scaled(0.5).unwrap();
    let made = scaled(Prompts::synthetic(100, 40, 1).unwrap());
    let (a, b) = (words(&made, 0), words(&made, 1));
    assert_eq!((a.len(), a[..20] == b[..20], a[20] == b[20]), (50, true, false));
    let traced = scaled(dataset(r#"{"input_length":600,"hash_ids":[1]}"#));
    assert_eq!(words(&traced, 0).len(), 300);
    assert_eq!(scaled(Prompts::one("a b")).get(0).plain(), "a b");
    let tiny = Prompts::synthetic(2, 1, 1).unwrap().scaled(0.05).unwrap();
    assert_ne!(tiny.get(0).plain(), tiny.get(1).plain(), "a token is a word at least");
    for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, 21.0] {
        assert!(Prompts::one("a").scaled(nonsense).is_err(), "{nonsense}");
    }
    assert!(Prompts::synthetic(u32::MAX, 0, 1).is_err());
}

#[test]
fn the_words_are_all_different_and_plain() {
    assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), WORDS.len());
    assert!(WORDS.iter().all(|w| w.len() >= 3 && w.bytes().all(|b| b.is_ascii_lowercase())));
}

/// Lines made of the words that matter to a data set.
fn file() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[\\[\\]{}:,\"a0\\n ]{0,6}",
        prop::sample::select(vec![
            r#"{"messages":["#,
            r#"{"role":"user","content":"a"}"#,
            r#"{"conversations":["#,
            r#"{"from":"human","value":"a"}"#,
            r#"{"prompt":"a"}"#,
            r#"{"timestamp":1,"input_length":600,"output_length":1,"hash_ids":[1,2]}"#,
            "]}",
            "\n",
            "[",
            "]",
            ",",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn made_prompts_have_the_wanted_length_and_depend_on_seed_and_number_alone(
        tokens in 1u32..400, shared in 0u32..400, seed: u64, id: u64, other: u64,
    ) {
        prop_assume!(shared < tokens && id != other && id != u64::MAX && other != u64::MAX);
        let prompts = Prompts::synthetic(tokens, shared, seed).unwrap();
        let (a, b) = (words(&prompts, id), words(&prompts, other));
        prop_assert_eq!((a.len(), b.len()), (tokens as usize, tokens as usize));
        let (from, to) = (shared as usize, a.len().min(shared as usize + 8));
        prop_assert_eq!(&a[..from], &b[..from]);
        prop_assert!(to - from < 8 || a[from..to] != b[from..to]);
        prop_assert_eq!(words(&Prompts::synthetic(tokens, shared, seed).unwrap(), id), a);
    }

    #[test]
    fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in file(), id: u64) {
        for file in [&bytes[..], text.as_bytes()] {
            for prompts in [Prompts::lines(file), Prompts::dataset(file)].into_iter().flatten() {
                let prompt = prompts.get(id);
                prop_assert!(prompt.chat().as_array().is_some_and(|messages| !messages.is_empty()));
                let _ = prompt.plain();
            }
        }
    }
}

#[test]
fn a_trace_whose_times_are_seconds_is_told() {
    let trace = |step: f64| {
        let entry = |n: u32| format!(r#"{{"timestamp":{},"input_length":5}}"#, f64::from(n) * step);
        dataset(&(0..50).map(entry).collect::<Vec<_>>().join("\n"))
    };
    // Each 300 ms, and each 0.3.
    assert_eq!(trace(300.0).looks_like_seconds(), None);
    let rate = trace(0.3).looks_like_seconds().unwrap();
    assert!((rate - 1e3 / 0.3).abs() < 1.0, "{rate}");
    assert_eq!(dataset(r#"{"prompt":"a"}"#).looks_like_seconds(), None);
}

#[test]
fn the_built_in_prompt_begins_otherwise_in_each_request_and_each_run() {
    let first = |seed, id| {
        let text = Prompts::built_in(seed).get(id).plain();
        assert!(text.ends_with("why the sky is blue."), "{text}");
        text.split(' ').next().unwrap().to_owned()
    };
    let words: std::collections::BTreeSet<String> = (0..200).map(|id| first(7, id)).collect();
    assert_eq!(words.len(), 200);
    assert_ne!(first(7, 0), first(8, 0));
    assert_eq!(Prompts::built_in(7).len(), None);
}
