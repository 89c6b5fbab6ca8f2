//! The life of `exec`'s command.
//!
//! Owns when it was let run, when its server answered, and how it ended as its parent saw it. Fed by [`Aggregates`].
//!
//! [`Aggregates`]: super::Aggregates

use crate::clock::Mono;
use crate::event::{CommandEvent, ExitStatus};

use super::Aggregate;

/// As far as it was told; nothing without a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandPart {
    pub started: Option<Mono>,
    /// Its server answered.
    pub ready: Option<Mono>,
    pub exited: Option<(Mono, ExitStatus)>,
}

#[derive(Debug, Default)]
pub(crate) struct CommandAggregate(CommandPart);

impl Aggregate for CommandAggregate {
    type Event = CommandEvent;
    type Part = CommandPart;
    type Finals = ();

    fn apply(&mut self, event: CommandEvent) {
        match event {
            CommandEvent::Started { t } => self.0.started = Some(t),
            CommandEvent::Ready { t } => self.0.ready = Some(t),
            CommandEvent::Exited { t, status } => self.0.exited = Some((t, status)),
        }
    }

    fn snapshot(&self, _now: Mono) -> CommandPart {
        self.0
    }

    fn finish(self, (): &()) -> CommandPart {
        self.0
    }
}
