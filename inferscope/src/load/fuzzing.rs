//! What must hold for any bytes that a server sends and any data set.
//!
//! Owns the properties, one function each; called by the targets under `fuzz/`, and by the tests with the corpus
//! that lies there. Never part of an ordinary build.
//!
//! A byte that UTF-8 does not know, 0xff, cuts an input into the pieces in which it arrives, so that a fuzzer can
//! move the cuts and a file with a server's stream is a corpus entry as it is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::interpret::{self, EventContent, TokenCount};
use super::prompts::Prompts;
use super::request::{End, RequestState, Slot, Wanted};
use super::sse::{LIMIT_BYTES, SseError, SseEvent, SseParser};
use crate::clock::Mono;
use crate::event::{Asked, Failure, FailureKind, RequestLog};

const CUT: u8 = 0xff;

fn pieces(input: &[u8]) -> Vec<&[u8]> {
    input.split(|&b| b == CUT).collect()
}

/// The same bytes cut otherwise: in one piece, and byte by byte.
fn cuts(whole: &[u8]) -> [Vec<&[u8]>; 2] {
    [vec![whole], whole.chunks(1).collect()]
}

fn whole(input: &[u8]) -> Vec<u8> {
    pieces(input).concat()
}

/// The events of a stream do not depend on how it was cut, and the parser keeps to its bound.
///
/// # Panics
/// Where that does not hold, as every function here.
pub fn sse(input: &[u8]) {
    let whole = whole(input);
    let events = events(&pieces(input));
    for cut in cuts(&whole) {
        assert_eq!(self::events(&cut), events);
    }
}

type Events = (Vec<(Vec<u8>, Vec<u8>)>, Option<SseError>);

fn events(pieces: &[&[u8]]) -> Events {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    let mut keep = |event: SseEvent<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec()));
        ControlFlow::Continue(())
    };
    for piece in pieces {
        if let Err(error) = parser.feed(piece, &mut keep) {
            return (events, Some(error));
        }
        // Three buffers, each at most doubled once when it grows to its limit.
        assert!(parser.room() <= 3 * 2 * LIMIT_BYTES);
    }
    let error = parser.finish(&mut keep).err();
    (events, error)
}

/// Each piece is the data of an event. No more text comes out of an event than is in it, and the tokens of the
/// chunks come to no more than the server's count.
pub fn interpret(input: &[u8]) {
    let mut count = TokenCount::default();
    // Of each choice.
    let mut sums: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for data in pieces(input) {
        let _ = interpret::event(SseEvent { name: b"error", data });
        let _ = interpret::event(SseEvent { name: b"ping", data });
        let Ok(EventContent::Chunk(chunk)) = interpret::event(SseEvent { name: b"", data }) else { continue };
        // A byte that is no UTF-8 becomes a replacement character of three.
        assert!(chunk.parts().map(|part| u64::from(part.bytes)).sum::<u64>() <= 3 * data.len() as u64);
        assert!(chunk.parts().all(|part| (part.bytes > 0) == part.kind.has_tokens()));
        assert_eq!((chunk.finished & !chunk.choices, chunk.stopped & !chunk.finished), (0, 0));
        let told = chunk.usage.and_then(|u| u.completion_tokens).unwrap_or(0);
        let grown = u64::from(count.of(&chunk).unwrap_or(0));
        if let Some(part) = chunk.parts().find(|part| part.kind.has_tokens()) {
            let (tokens, most) = sums.entry(part.choice).or_default();
            (*tokens, *most) = (*tokens + grown, (*most).max(told));
        }
    }
    assert!(sums.values().all(|(tokens, most)| tokens <= most));
}

/// A data set is refused or every prompt of it can be asked.
pub fn dataset(input: &[u8]) {
    // To write millions of words for one entry would show nothing.
    if input.windows(5).any(|w| w.iter().all(u8::is_ascii_digit)) {
        return;
    }
    for prompts in [Prompts::lines(input), Prompts::dataset(input)].into_iter().flatten() {
        let len = prompts.len().expect("a file ends");
        assert!(len > 0);
        let timed = prompts.timed();
        if let Some(at) = &timed {
            assert!(at.is_sorted() && at.len() as u64 == len && at[0].0 == 0);
        }
        for id in 0..len.min(8) {
            let prompt = prompts.get(id);
            assert_eq!(prompt.at.is_some(), timed.is_some());
            assert!(prompt.max_tokens != Some(0));
            assert!(prompt.chat().as_array().is_some_and(|messages| !messages.is_empty()));
            let _ = prompt.plain();
            assert_eq!(prompt, prompts.get(id + len));
        }
    }
}

/// What an answer comes to does not depend on how it was cut, and its stamps are in order.
pub fn request(input: &[u8]) {
    let whole = whole(input);
    for dropped in [false, true] {
        let log = answered(&pieces(input), dropped);
        for cut in cuts(&whole) {
            assert_eq!(comes_to(&answered(&cut, dropped)), comes_to(&log));
        }
    }
}

fn answered(pieces: &[&[u8]], dropped: bool) -> RequestLog {
    let mut state =
        RequestState::new(Slot { id: 1, warmup: false, scheduled: None }, Mono(1), Asked::tokens(8));
    state.headers(Mono(2), 200);
    let mut t = 3;
    for piece in pieces {
        t += 10;
        if state.read(Mono(t), piece) != Wanted::More {
            break;
        }
    }
    let end = if dropped {
        End::Failed(Failure { kind: FailureKind::Disconnect, message: "reset".to_owned() })
    } else {
        End::Eof
    };
    let log = state.finish(Mono(t + 10), end);
    assert!(log.chunks.is_sorted_by_key(|chunk| chunk.t));
    assert!(log.chunks.iter().all(|chunk| chunk.t > Mono(2) && chunk.t <= Mono(t) && chunk.t <= log.done));
    assert!(log.done <= Mono(t + 10));
    if log.failure.is_none() {
        assert!(log.chunks.iter().any(|chunk| chunk.kind.has_tokens()));
    }
    log
}

/// A log without its stamps, and without the words of its failure, which quote the first read.
fn comes_to(log: &RequestLog) -> impl PartialEq + std::fmt::Debug + use<> {
    let chunks: Vec<_> =
        log.chunks.iter().map(|chunk| (chunk.kind, chunk.bytes, chunk.tokens, chunk.choice)).collect();
    let failure = log.failure.as_ref().map(|failure| failure.kind);
    (chunks, log.usage, log.finish_reason.clone(), log.served_model.clone(), failure)
}

#[cfg(test)]
mod tests;
