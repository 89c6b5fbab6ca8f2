//! What the client saw of each request, and of itself.

use std::any::Any;
use std::num::NonZeroU16;
use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::clock::Mono;
use crate::units::Nanos;

/// One phase of a load: a step of its sweep, or one repetition of it.
#[derive(Debug, Clone)]
pub struct PhaseLog {
    /// Index into the plan's steps.
    pub step: usize,
    /// Counted from zero.
    pub repetition: u32,
    pub started: Mono,
    /// When its measured part began; `None` where it was not reached.
    pub measured_from: Option<Mono>,
    /// When no more was sent: what came after it is the server's backlog.
    pub sent_all: Mono,
    /// When the load was no longer applied: its time was up, its last request was sent, or it was stopped.
    pub loaded_to: Option<Mono>,
    /// The load ended because its time was up.
    pub timed: bool,
    /// Of an open loop: the time over which the measured requests went out, or were to.
    pub offered_over: Option<Nanos>,
    /// Different prompts that there were to send; `None`: without end.
    pub prompts: Option<u64>,
    /// The last byte of the requests that were under way in the measured part, the ramp's included.
    pub last_byte: Mono,
    pub ended: Mono,
    /// Measured requests.
    pub measured_sent: u64,
    /// Requests under way over the measured part, the ramp's included. A stretch begins where the load ended.
    pub in_flight: Vec<InFlight>,
    /// CPU time of the thread that sends and reads, over the phase.
    pub thread_cpu: Nanos,
    /// How late that thread's timer was, in nanoseconds; it looks every 20 ms.
    pub timer_lag: Histogram<u64>,
    /// Prompts that this phase sent more than once, because the file holds fewer.
    pub prompts_again: u64,
}

/// The part of a phase in which its load is full, as far as it is known by now. What is not known yet lies after all
/// that has ended by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    pub from: Option<Mono>,
    pub to: Option<Mono>,
}

/// Requests under way in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InFlight {
    /// The stretch begins here and ends where the next begins.
    pub t: Mono,
    /// Over time.
    pub mean: f64,
    pub max: u32,
}

/// How the server counts made prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// That were sent to find out; they are in no figure.
    pub requests: u32,
    pub tokens_a_word: f64,
    /// A chat template's.
    pub tokens_beside: f64,
}

/// What the client tells of itself.
#[derive(Debug, Clone, Default)]
pub struct ClientLog {
    /// From the kernel's receipt of bytes to their reading, in nanoseconds; `None` where the kernel's stamps
    /// are not to be had.
    pub read_lag: Option<Histogram<u64>>,
    /// Reads that were stamped when they returned.
    pub unstamped_reads: u64,
    pub connections_opened: u64,
}

/// One request, whether it worked or not, with what was received until then.
#[derive(Debug, Clone)]
pub struct RequestLog {
    pub id: u64,
    pub warmup: bool,
    /// When the schedule wanted it sent; `None` in a closed loop, where there is no schedule.
    pub scheduled: Option<Mono>,
    /// When its turn came: before a connection was looked for.
    pub sent: Mono,
    /// When its first byte was handed to the kernel; `None` where none was. Of a request that was sent twice, that of the
    /// first sending.
    pub written: Option<Mono>,
    /// How long that write took: much, where the client was stopped in it. `None`: unknown.
    pub write_took: Option<Nanos>,
    /// DNS, TCP and TLS of the connection that was opened for it; `None` where one was used again, or none came about.
    pub connect: Option<Nanos>,
    pub headers: Option<Mono>,
    pub http_status: Option<u16>,
    /// In the order of arrival, each stamped when its bytes were read and before they were parsed.
    pub chunks: Vec<Chunk>,
    pub done: Mono,
    /// In which the client did not look, from before it was sent to its end; the latest first.
    pub client_stalls: Vec<Stall>,
    /// Each read has the kernel's time.
    pub kernel_stamps: bool,
    pub asked: Asked,
    /// The server's own count, where it sent one: of all choices together.
    pub usage: Option<Usage>,
    /// Of the first choice that gave one.
    pub finish_reason: Option<String>,
    /// Choices that ended with `stop`.
    pub stops: u32,
    /// `model` as the server named it in its answer.
    pub served_model: Option<String>,
    pub failure: Option<Failure>,
    /// Its chunks stay charged to the load's memory while the log waits to be added up.
    pub memory: MemoryHold,
}

/// A share of a bounded memory, free again when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryHold(
    #[expect(dead_code, reason = "held for what its drop frees")] Option<Arc<dyn Any + Send + Sync>>,
);

impl MemoryHold {
    /// `share`: frees the memory when it is dropped.
    #[must_use]
    pub fn new(share: impl Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(share)))
    }
}

impl RequestLog {
    /// Memory that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let chunks = self.chunks.capacity().saturating_mul(size_of::<Chunk>());
        let failure = self.failure.as_ref().map_or(0, |failure| failure.message.capacity());
        (size_of::<Self>() + chunks + failure) as u64
    }

    /// From when on somebody waited for the server's answer: in an open loop from the intended time, whatever came in
    /// between; in a closed one from the request's first byte, as the user of a client that keeps its connections.
    #[must_use]
    pub fn waited_from(&self) -> Mono {
        self.scheduled.or(self.written).unwrap_or(self.sent)
    }
}

/// The load's thread did not run, or did not come to a connection that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    pub from: Mono,
    pub to: Mono,
}

/// What a request's body asks for, as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// For each choice; `None` where the body names no limit.
    pub max_tokens: Option<u64>,
    /// `n`, and as many for each prompt of a list.
    pub choices: u32,
    pub body_bytes: u64,
    /// Parts of its messages that are no text: a server counts as many tokens for them as it likes.
    pub attachments: u32,
}

impl Asked {
    /// One choice of at most so many tokens.
    #[must_use]
    pub const fn tokens(most: u64) -> Self {
        Self { max_tokens: Some(most), choices: 1, body_bytes: 0, attachments: 0 }
    }
}

/// What one event of the stream held of one choice (an SSE event, not a token).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub t: Mono,
    /// Bytes of generated text in it.
    pub bytes: u32,
    /// Generated tokens in it where the server says (continuous usage), else `None`.
    pub tokens: Option<u32>,
    pub kind: ChunkKind,
    /// `None`: of no choice, such as the usage of the whole answer.
    pub choice: Option<Choice>,
}

// The token path pushes one a token.
const _: () = assert!(size_of::<Chunk>() == 24);

/// One of the answers to a request: `n` asks for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice(NonZeroU16);

impl Choice {
    pub const FIRST: Self = Self(NonZeroU16::MIN);
    /// The last index; choices beyond it share it.
    const LAST: u8 = u8::MAX;

    #[must_use]
    pub fn new(index: u64) -> Self {
        Self(NonZeroU16::MIN.saturating_add(u8::try_from(index).unwrap_or(Self::LAST).into()))
    }

    #[must_use]
    pub const fn index(self) -> u16 {
        self.0.get() - 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Visible answer text.
    Content,
    /// `reasoning_content` or `reasoning`.
    Reasoning,
    /// A part of a tool call.
    Tool,
    /// No generated token in it: a role, a finish reason, usage.
    Other,
}

impl ChunkKind {
    #[must_use]
    pub const fn has_tokens(self) -> bool {
        !matches!(self, Self::Other)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    /// Of the completion's: thinking, whether it was sent or not.
    pub reasoning_tokens: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// One line, with the server's own words where it had any.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    Connect,
    /// The server's certificate was refused.
    Certificate,
    /// The client could not open a connection by a limit of its own: the server was not asked.
    ClientLimit,
    Timeout,
    /// An HTTP status other than 2xx.
    Status,
    /// An `error` object inside the stream.
    ServerError,
    /// Bytes that are no completion stream.
    Malformed,
    /// The connection or stream ended before the answer was complete.
    Disconnect,
    /// The answer held no generated token.
    Empty,
    /// The answer went on far beyond what was asked for, and was cut off.
    Overrun,
    /// It was given up to keep this process within its memory.
    Memory,
    /// Ctrl-C.
    Interrupted,
}
