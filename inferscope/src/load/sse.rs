//! Server-sent events: bytes in, events out.
//!
//! Owns the line and event framing of a `text/event-stream` body, split in any way. Sans-IO: never reads, and never
//! looks at a clock or into an event's data. Fed by `request`.
//!
//! Grammar: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>, with two
//! liberties that servers need. A field named `error` (llama.cpp before 2024 wrote `error: {…}`) is the data of an
//! event of that name. Data that is pending when the body ends is an event. The standard drops it, but some servers
//! leave out the last blank line.

use std::ops::ControlFlow;

/// Longest line, and most data of one event, in bytes. A server that streams tokens stays far below it. Any other
/// server must not take this process's memory.
pub(crate) const LIMIT_BYTES: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// One event with data, valid during the callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SseEvent<'a> {
    /// The `event` field; empty if there was none.
    pub(crate) name: &'a [u8],
    /// The `data` lines, joined by `\n`.
    pub(crate) data: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SseError {
    #[error("a line of the stream is longer than {LIMIT_BYTES} bytes")]
    LineTooLong,
    #[error("an event of the stream is longer than {LIMIT_BYTES} bytes")]
    EventTooLong,
}

/// The incremental parser. It reuses its three buffers, so a steady stream allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    /// The bytes of an unfinished line.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    /// A `data` field came, so a blank line ends an event (data itself may be empty).
    has_data: bool,
    /// The last byte was `\r`: a following `\n` belongs to it.
    after_cr: bool,
    /// The first line was seen: a byte order mark can't come any more.
    past_first_line: bool,
}

impl SseParser {
    /// Takes the next bytes and hands over the events that they complete. A `Break` from `on_event` stops the parsing
    /// and drops the bytes after that event.
    ///
    /// # Errors
    /// [`SseError`] if a line or event is too long. The parser is of no further use then.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut on_event: impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), SseError> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|&b| b == b'\n' || b == b'\r') else {
                check_line(self.line.len() + bytes.len())?;
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            self.after_cr = bytes[end] == b'\r';
            let rest = &bytes[end + 1..];
            check_line(self.line.len() + end)?;
            let flow = if self.line.is_empty() {
                self.take_line(&bytes[..end], &mut on_event)?
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                let flow = self.take_line(&line, &mut on_event)?;
                line.clear();
                self.line = line;
                flow
            };
            if flow.is_break() {
                return Ok(());
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the body: hands over pending data even without its last line end or blank line.
    ///
    /// # Errors
    /// [`SseError`], as [`Self::feed`].
    pub(crate) fn finish(
        &mut self,
        mut on_event: impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.take_line(&line, &mut on_event)?.is_break() {
            return Ok(());
        }
        // A break makes no difference: nothing follows.
        let _ = self.dispatch(&mut on_event);
        Ok(())
    }

    /// Bytes of the buffers.
    pub(super) fn room(&self) -> usize {
        self.line.capacity() + self.name.capacity() + self.data.capacity()
    }

    fn take_line(
        &mut self,
        line: &[u8],
        on_event: &mut impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SseError> {
        let first = !std::mem::replace(&mut self.past_first_line, true);
        let line = line.strip_prefix(BOM).filter(|_| first).unwrap_or(line);
        if line.is_empty() {
            return Ok(self.dispatch(on_event));
        }
        let (field, value) = match line.iter().position(|&b| b == b':') {
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => self.append(value)?,
            b"event" => set(&mut self.name, value),
            b"error" => {
                set(&mut self.name, b"error");
                self.append(value)?;
            }
            // This is a comment (no name), `id`, `retry` or an unknown field.
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn append(&mut self, value: &[u8]) -> Result<(), SseError> {
        if self.data.len() + value.len() >= LIMIT_BYTES {
            return Err(SseError::EventTooLong);
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn dispatch(&mut self, on_event: &mut impl FnMut(SseEvent<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let flow = if std::mem::take(&mut self.has_data) {
            on_event(SseEvent { name: &self.name, data: &self.data })
        } else {
            ControlFlow::Continue(())
        };
        self.name.clear();
        self.data.clear();
        flow
    }
}

fn check_line(bytes: usize) -> Result<(), SseError> {
    if bytes > LIMIT_BYTES { Err(SseError::LineTooLong) } else { Ok(()) }
}

fn set(buffer: &mut Vec<u8>, value: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
