//! Failures by cause.
//!
//! Owns the bound on the causes and what is kept of each. Never judges. Fed by `totals`.

use std::collections::BTreeMap;

use crate::clock::Mono;
use crate::event::{Failure, FailureKind, RequestLog};

/// Causes that are counted one by one; further ones are counted together.
const CAUSES: usize = 64;

/// Requests that failed in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureGroup {
    /// `None`: causes that found no room.
    pub(crate) kind: Option<FailureKind>,
    /// Where it is the failure.
    pub(crate) http_status: Option<u16>,
    pub(crate) count: u64,
    /// Warm-up requests among them.
    pub(crate) warmup: u64,
    /// When the first of them failed.
    pub(crate) first: Option<Mono>,
    /// The first of them in the server's words.
    pub(crate) example: String,
}

type Cause = (FailureKind, Option<u16>);

/// Failures by cause, each with its first message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    groups: BTreeMap<Cause, Group>,
    /// Of causes that found no room.
    further: u64,
}

#[derive(Debug, Clone)]
struct Group {
    count: u64,
    warmup: u64,
    /// When the first of them failed, and what it said.
    first: Mono,
    example: String,
}

impl Failures {
    pub(crate) fn add(&mut self, request: &RequestLog, failure: &Failure) {
        // The status tells failures apart only where it is the failure.
        let status = request.http_status.filter(|_| failure.kind == FailureKind::Status);
        let (cause, message) = ((failure.kind, status), &failure.message);
        let (warmup, first) = (u64::from(request.warmup), request.done);
        self.put(cause, &Group { count: 1, warmup, first, example: message.clone() });
    }

    fn put(&mut self, cause: Cause, more: &Group) {
        let room = self.groups.len() < CAUSES;
        match self.groups.get_mut(&cause) {
            Some(group) => {
                group.count += more.count;
                group.warmup += more.warmup;
                if more.first < group.first {
                    (group.first, group.example) = (more.first, more.example.clone());
                }
            }
            None if room => {
                self.groups.insert(cause, more.clone());
            }
            None => self.further += more.count,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (cause, group) in &other.groups {
            self.put(*cause, group);
        }
        self.further += other.further;
    }

    /// How many requests failed so, how many of them are warm-up, and what the first said.
    pub(crate) fn of(&self, kind: FailureKind) -> Option<(u64, u64, &str)> {
        let groups = || self.groups.iter().filter(|((k, _), _)| *k == kind).map(|(_, group)| group);
        let example = groups().next()?.example.as_str();
        Some((groups().map(|g| g.count).sum(), groups().map(|g| g.warmup).sum(), example))
    }

    /// The earliest first: what comes after it is often its consequence. Those of causes that found no room last.
    pub(crate) fn groups(&self) -> Vec<FailureGroup> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(cause, group)| (group.first, **cause));
        let listed = groups.into_iter().map(|((kind, status), group)| FailureGroup {
            kind: Some(*kind),
            http_status: *status,
            count: group.count,
            warmup: group.warmup,
            first: Some(group.first),
            example: group.example.clone(),
        });
        let further = (self.further > 0).then(|| FailureGroup {
            kind: None,
            http_status: None,
            count: self.further,
            warmup: 0,
            first: None,
            example: format!("of more than {CAUSES} causes"),
        });
        listed.chain(further).collect()
    }
}
