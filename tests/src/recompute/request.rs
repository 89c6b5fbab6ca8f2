//! One request of the report's list.
//!
//! Owns what is read off it: its times, its tokens, whether it kept a service level. Pure. Called by `load` and `timing`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::dist::Values;

#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) t: u64,
    pub(super) tokens: Option<u64>,
    pub(super) kind: String,
    pub(super) bytes: u64,
    /// Of several answers to one request.
    choice: Option<u64>,
    /// Read together with others after a stall of the client: what is measured from or to it is in no figure.
    late: bool,
}

impl Chunk {
    pub(super) fn has_text(&self) -> bool {
        self.kind != "other"
    }
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) place: usize,
    pub(super) warmup: bool,
    pub(super) ok: bool,
    /// The phase that it is of.
    step: u64,
    repetition: u64,
    pub(super) scheduled: Option<u64>,
    pub(super) sent: u64,
    /// Its first byte.
    written: Option<u64>,
    pub(super) connect: Option<u64>,
    /// The client stalled around its sending, or when its end was read.
    sent_late: bool,
    done_late: bool,
    /// The longest stall that made any of its times late.
    stall: u64,
    pub(super) done: u64,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) by_usage: Option<bool>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) chunks_omitted: bool,
}

/// What is nearer to each other came together.
pub(super) const TOGETHER_NS: u64 = 100_000;

/// Levels by their names, in nanoseconds.
pub(super) type Slo = BTreeMap<String, u64>;

impl Request {
    pub(super) fn of(place: usize, json: &Value) -> Self {
        let whole = |name: &str| json[name].as_u64();
        let chunk = |c: &Value| Chunk {
            t: c["t_ns"].as_u64().unwrap_or(0),
            tokens: c["tokens"].as_u64(),
            kind: c["kind"].as_str().unwrap_or_default().to_owned(),
            bytes: c["bytes"].as_u64().unwrap_or(0),
            choice: c["choice"].as_u64(),
            late: c["client_late"] == true,
        };
        Self {
            place,
            warmup: json["warmup"] == true,
            ok: json["ok"] == true,
            step: whole("step").unwrap_or(0),
            repetition: whole("repetition").unwrap_or(0),
            scheduled: whole("scheduled_ns"),
            sent: whole("sent_ns").unwrap_or(0),
            written: whole("written_ns"),
            connect: whole("connect_ns"),
            sent_late: json["sent_client_late"] == true,
            done_late: json["done_client_late"] == true,
            stall: whole("client_stall_ns").unwrap_or(0),
            done: whole("done_ns").unwrap_or(0),
            prompt_tokens: whole("prompt_tokens"),
            output_tokens: whole("output_tokens"),
            by_usage: json["token_source"].as_str().map(|source| source == "usage"),
            chunks: json["chunks"].as_array().into_iter().flatten().map(chunk).collect(),
            chunks_omitted: json["chunks_omitted"] == true,
        }
    }

    /// Which step of a sweep, which repetition.
    pub(super) const fn phase(&self) -> (u64, u64) {
        (self.step, self.repetition)
    }

    /// "from the scheduled time (open loop) or the request's first byte handed to the kernel (closed loop)"; where none
    /// was, from the send.
    pub(super) fn asked(&self) -> u64 {
        self.scheduled.or(self.written).unwrap_or(self.sent)
    }

    pub(super) fn text(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().filter(|chunk| chunk.has_text())
    }

    fn since_asked(&self, chunk: &Chunk) -> Option<u64> {
        (!self.sent_late && !chunk.late).then(|| chunk.t.saturating_sub(self.asked()))
    }

    pub(super) fn ttft(&self) -> Option<u64> {
        self.since_asked(self.text().next()?)
    }

    fn visible(&self) -> Option<&Chunk> {
        self.text().find(|chunk| chunk.kind != "reasoning")
    }

    pub(super) fn ttfo(&self) -> Option<u64> {
        self.since_asked(self.visible()?)
    }

    pub(super) fn e2e(&self) -> Option<u64> {
        (!self.sent_late && !self.done_late).then(|| self.done.saturating_sub(self.asked()))
    }

    /// Where it is not known, it may be earlier by the stall.
    fn within(&self, known: Option<u64>, at: u64, level: u64) -> bool {
        let least = || at.saturating_sub(self.asked()).saturating_sub(self.stall);
        known.unwrap_or_else(least) <= level
    }

    /// What a stall of the client left no figure of: gaps, times to the first token, ends.
    pub(super) fn left_out(&self) -> (u64, u64, u64) {
        let all: usize =
            self.choices().iter().map(|c| c.iter().filter(|c| c.has_text()).count().saturating_sub(1)).sum();
        let first = self.text().next().is_some() && self.ttft().is_none();
        ((all - self.gaps().len()) as u64, u64::from(first), u64::from(self.e2e().is_none()))
    }

    /// Its choices, each with its chunks in order, also those without text. Where there are several, what is of none (a
    /// usage) is in none.
    fn choices(&self) -> Vec<Vec<&Chunk>> {
        let mut all: BTreeMap<u64, Vec<&Chunk>> = BTreeMap::new();
        for chunk in &self.chunks {
            if let Some(choice) = chunk.choice {
                all.entry(choice).or_default().push(chunk);
            }
        }
        if all.len() > 1 { all.into_values().collect() } else { vec![self.chunks.iter().collect()] }
    }

    pub(super) fn gaps(&self) -> Vec<u64> {
        let of = |answer: Vec<&Chunk>| {
            let text: Vec<&Chunk> = answer.into_iter().filter(|chunk| chunk.has_text()).collect();
            let known = text.windows(2).filter(|pair| !pair[0].late && !pair[1].late);
            known.map(|pair| pair[1].t.saturating_sub(pair[0].t)).collect::<Vec<_>>()
        };
        self.choices().into_iter().flat_map(of).collect()
    }

    /// "the gap before a chunk divided by the chunk's k tokens, counted k times".
    pub(super) fn token_gaps(&self) -> Values {
        let mut values = Values::default();
        if self.chunks.iter().any(|chunk| chunk.tokens.is_none()) {
            return values;
        }
        for answer in self.choices() {
            // Tokens without text are told with the text that follows; text without tokens adds its time to it.
            let (mut from, mut k): (Option<&Chunk>, u64) = (None, 0);
            for chunk in answer {
                k += chunk.tokens.unwrap_or(0);
                if !chunk.has_text() {
                    continue;
                }
                match from {
                    None => (from, k) = (Some(chunk), 0),
                    Some(_) if k == 0 => {}
                    Some(before) => {
                        let gap = chunk.t.saturating_sub(before.t);
                        if !before.late && !chunk.late {
                            // In whole nanoseconds whose sum is the gap.
                            values.add(gap / k + 1, gap % k);
                            values.add(gap / k, k - gap % k);
                        }
                        (from, k) = (Some(chunk), 0);
                    }
                }
            }
        }
        values
    }

    /// "(last token - first token) / the tokens that arrived after the first chunk", of each choice: that time and those
    /// tokens.
    pub(super) fn decode(&self) -> Vec<(u64, u64)> {
        let choices = self.choices();
        let alone = choices.len() == 1;
        let is_known = |choice: &&Vec<&Chunk>| {
            let mut text = choice.iter().filter(|chunk| chunk.has_text());
            let first = text.next();
            ![first, text.next_back()].into_iter().flatten().any(|chunk| chunk.late)
        };
        let known = choices.iter().filter(is_known);
        known.filter_map(|choice| self.decode_of(choice, alone)).collect()
    }

    fn decode_of(&self, choice: &[&Chunk], alone: bool) -> Option<(u64, u64)> {
        let text: Vec<usize> =
            choice.iter().enumerate().filter(|(_, chunk)| chunk.has_text()).map(|(at, _)| at).collect();
        let (first, last) = (*text.first()?, *text.last().filter(|_| text.len() > 1)?);
        let time = choice[last].t.saturating_sub(choice[first].t);
        // "the tokens that arrived after the first chunk and those that came within 100 us of each other with it"
        let apart = |pair: &&[usize]| choice[pair[1]].t.saturating_sub(choice[pair[0]].t) < TOGETHER_NS;
        let together = 1 + text.windows(2).take_while(apart).count();
        let burst = text[together - 1];
        let told: Option<u64> = choice[burst + 1..=last].iter().map(|chunk| chunk.tokens).sum();
        let after = match told {
            Some(told) => Some(told),
            None if alone => self.after_first_by_bytes(choice, together),
            None => None,
        };
        Some((time, after.filter(|n| *n > 0)?))
    }

    /// "Where the server tells no tokens a chunk, the first chunk's are total x its part of the text's bytes if that part is at
    /// most 5%, one where total and chunks are within 5%; else there is no value".
    fn after_first_by_bytes(&self, choice: &[&Chunk], together: usize) -> Option<u64> {
        let total = self.output_tokens?;
        let text: Vec<&Chunk> = choice.iter().copied().filter(|chunk| chunk.has_text()).collect();
        let (pieces, bytes) = (text.len() as u64, text.iter().map(|chunk| chunk.bytes).sum::<u64>());
        // Neither fewer tokens than pieces nor more than bytes can be these.
        if text.len() == together || !(pieces..=bytes).contains(&total) {
            return None;
        }
        if ((total - pieces) as f64) < 0.05 * pieces as f64 {
            return Some(total - together as u64);
        }
        let part = text[..together].iter().map(|chunk| chunk.bytes).sum::<u64>() as f64 / bytes as f64;
        (part <= 0.05).then(|| total - (part * total as f64).round().max(1.0) as u64)
    }

    pub(super) fn tpot(&self) -> Vec<u64> {
        self.decode().into_iter().map(|(time, tokens)| time / tokens).collect()
    }

    /// "successful requests that kept every level of --slo; itl holds for each gap between chunks with text, tpot for
    /// their mean a token".
    pub(super) fn keeps(&self, slo: &Slo) -> bool {
        let within = |values: &[u64], level: u64| values.iter().all(|value| *value <= level);
        self.ok
            && slo.iter().all(|(name, level)| match name.as_str() {
                // A stall of the client's made a time too late by at most its length: that much breaks no level.
                "ttft" => self.text().next().is_some_and(|c| self.within(self.ttft(), c.t, *level)),
                "ttfo" => self.visible().is_some_and(|c| self.within(self.ttfo(), c.t, *level)),
                "e2e" => self.within(self.e2e(), self.done, *level),
                "itl" => within(&self.gaps(), *level),
                "tpot" => within(&self.tpot(), *level),
                _ => panic!("a level of --slo that nobody knows: {name}"),
            })
    }

    /// "their output tokens without the first of each", where the first chunk is told to hold one.
    pub(super) fn after_first(&self) -> Option<u64> {
        let choices = self.choices();
        if self.by_usage != Some(true) || choices.len() > 1 {
            return None;
        }
        let Some(first) = self.text().next() else { return Some(0) };
        let rest = self.decode_of(&choices[0], false).map(|(_, tokens)| tokens);
        match (first.tokens, self.text().count()) {
            (Some(1), 1) => Some(0),
            (Some(1), _) => rest,
            _ => None,
        }
    }
}
