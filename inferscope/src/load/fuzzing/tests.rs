use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::event::ChunkKind;

/// A target's corpus, by file name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let files: BTreeMap<_, _> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    files
}

#[test]
fn the_properties_hold_for_the_corpus() {
    for (target, check) in
        [("sse", sse as fn(&[u8])), ("interpret", interpret), ("dataset", dataset), ("request", request)]
    {
        for (name, input) in corpus(target) {
            // Named, should it panic.
            println!("{target}/{name}");
            check(&input);
        }
    }
}

/// Each chunk's kind, with its tokens where they are known; the server's count; the finish reason; the failure.
fn outcome(log: &RequestLog) -> String {
    let chunks = log.chunks.iter().map(|chunk| {
        let kind = match chunk.kind {
            ChunkKind::Content => "C",
            ChunkKind::Reasoning => "R",
            ChunkKind::Tool => "T",
            ChunkKind::Other => ".",
        };
        format!("{kind}{}", chunk.tokens.map_or(String::new(), |n| n.to_string()))
    });
    let usage = log.usage.and_then(|u| u.completion_tokens).map_or("-".to_owned(), |n| n.to_string());
    let finish = log.finish_reason.as_deref().unwrap_or("-");
    let failure = log.failure.as_ref().map_or("ok".to_owned(), |f| format!("{:?}: {}", f.kind, f.message));
    format!("{} | {usage} | {finish} | {failure}", chunks.collect::<Vec<_>>().join(" "))
}

#[test]
fn real_servers_streams_come_to_what_they_say() {
    let mut corpus = corpus("request");
    for (name, wanted) in [
        ("vllm", ". C C . | 2 | stop | ok"),
        ("vllm-continuous", ". C1 C2 . . | 4 | length | ok"),
        ("vllm-reasoning", ". R R C . . | 4 | stop | ok"),
        ("vllm-error", ". C | - | - | ServerError: EngineCore encountered an issue"),
        ("sglang", ". C . . | 4 | stop | ok"),
        ("tgi", "C C | - | eos_token | ok"),
        (
            "tgi-error",
            "C | - | - | ServerError: Request failed during generation: Server error: CUDA out of memory",
        ),
        ("llamacpp", ". C . . | 1 | stop | ok"),
        ("llamacpp-2023-error", "C | - | - | ServerError: context shift is disabled"),
        ("ollama", "R C . . | 2 | stop | ok"),
        ("tensorrt-llm", ". C . . | 2 | stop | ok"),
        ("azure", ". . C . . . | 1 | stop | ok"),
        ("openrouter", "R C . . | 3 | stop | ok"),
        ("openrouter-error", "C | - | - | ServerError: Provider disconnected unexpectedly"),
        ("together", "C . | 2 | stop | ok"),
        ("perplexity", "C1 C1 . | 2 | stop | ok"),
        ("mistral-thinking", ". R C . | 2 | stop | ok"),
        ("tools", "T T T . | - | tool_calls | ok"),
        ("two-choices", "C1 C1 . . . | 2 | stop | ok"),
        ("completions", "C C | - | length | ok"),
        (
            "empty-finish-reasons",
            "C C | - | - | Disconnect: the stream ended without a finish_reason or [DONE]",
        ),
        ("half-pairs", "C C | - | stop | ok"),
        ("no-blank-line-at-the-end", "C | - | stop | ok"),
        ("anthropic", " | - | - | ServerError: Overloaded"),
        ("gemini-error", " | - | - | ServerError: Please use a valid role"),
        (
            "document",
            " | 1 | stop | Malformed: the server answered with one JSON document instead of a stream",
        ),
        (
            "html",
            " | - | - | Malformed: the answer is no event stream: <html><head><title>502 Bad Gateway</title></head></html>",
        ),
        ("cut-in-a-character", ". C C . | 2 | stop | ok"),
        ("cut-everywhere", ". C . . | 1 | stop | ok"),
        ("comments-ids-and-multi-line", "C | - | stop | ok"),
    ] {
        let input = corpus.remove(name).unwrap_or_else(|| panic!("{name} is gone"));
        assert_eq!(outcome(&answered(&pieces(&input), false)), wanted, "{name}");
    }
    // What a fuzzer has found stays for the properties alone.
    corpus.retain(|name, _| !name.starts_with("found-"));
    assert_eq!(corpus.keys().collect::<Vec<_>>(), [""; 0], "without a wanted outcome");
}
