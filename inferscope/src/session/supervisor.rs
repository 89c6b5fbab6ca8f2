//! A command from its first instruction to its end, as the run sees it.
//!
//! Owns the waiting: for the command's end, for the server that it starts, for signals; and the decision when
//! it has to be ended. Never measures. Called by `session::lifetime`.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::RunError;
use super::main_thread::MainThread;
use crate::aggregate::Aggregates;
use crate::clock::Mono;
use crate::event::{CommandEvent, Event, ExitStatus};
use crate::hub::Sender;
use crate::launch::{LaunchEvent, Launched, Watch};
use crate::load::{Driver, LoadError, Served};
use crate::plan::CommandPlan;
use crate::units::Nanos;
use crate::verdict::doubt::{Doubt, DoubtCode};

/// Between two questions whether the server answers; how exactly its readiness is known.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Supervisor<'a, 'env> {
    command: &'env Launched<'env>,
    main: &'a MainThread<'env>,
    events: &'a Sender<Aggregates>,
    watch: Watch<'a>,
    grace: Nanos,
    ready_timeout: Nanos,
    over: Over,
}

/// How it went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) exit: Option<ExitStatus>,
    /// It did not end by itself.
    pub(super) by_us: bool,
    pub(super) interrupted: bool,
    janitor_lost: bool,
    /// Processes that could not be ended.
    unkillable: u32,
}

impl<'a, 'env> Supervisor<'a, 'env> {
    /// Must be called within a runtime.
    pub(super) fn new(
        command: &'env Launched<'env>,
        plan: &CommandPlan,
        main: &'a MainThread<'env>,
        events: &'a Sender<Aggregates>,
    ) -> Result<Self, RunError> {
        let watch = command
            .watch()
            .map_err(|source| RunError::System { what: "the command can't be watched", source })?;
        let CommandPlan { grace, ready_timeout, .. } = *plan;
        Ok(Self { command, main, events, watch, grace, ready_timeout, over: Over::default() })
    }

    /// Returns when the command is the program.
    pub(super) fn let_run(&self) -> Result<(), RunError> {
        self.command.open_gate()?;
        self.send(CommandEvent::Started { t: Mono::now() });
        Ok(())
    }

    pub(super) const fn over(&self) -> Over {
        self.over
    }

    /// Until the command's end, at the latest after `time`.
    pub(super) async fn wait(&mut self, time: Option<Nanos>) {
        // What overflows is never.
        let after = |time: Nanos| Instant::now().checked_add(time.to_duration());
        let mut deadline = time.and_then(after);
        while self.over.exit.is_none() && !self.over.janitor_lost {
            let expired = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                happened = self.watch.next() => match self.note(happened) {
                    // It was told, and has as much time as where it is ended.
                    LaunchEvent::Interrupted => deadline = after(self.grace),
                    LaunchEvent::InterruptedAgain => return self.clear(Launched::kill).await,
                    _ => {}
                },
                () = expired => {
                    let interrupted = self.over.interrupted;
                    return self.clear(|c| if interrupted { c.kill() } else { c.end(true) }).await;
                }
            }
        }
        self.sweep().await;
    }

    /// Asks until the server answers; what it tells. `None`: interrupted.
    ///
    /// # Errors
    /// The time is up, the command ended, or the server answers that it can't be driven.
    pub(super) async fn ready(&mut self, driver: &Driver) -> Result<Option<Served>, RunError> {
        let limit = self.ready_timeout;
        let last: RefCell<Option<LoadError>> = RefCell::new(None);
        let asking = async {
            loop {
                match driver.meet().await {
                    Err(e) if e.may_pass() => last.replace(Some(e)),
                    Err(e) => return driver.without_list(e),
                    answered => return answered,
                };
                sleep(ASK_INTERVAL).await;
            }
        };
        tokio::select! {
            biased;
            happened = self.watch.next() => match self.note(happened) {
                LaunchEvent::Interrupted | LaunchEvent::InterruptedAgain => Ok(None),
                LaunchEvent::Ended(exit) => Err(RunError::NotReady(format!(
                    "the command ended with {} before the endpoint answered\n  see what it printed; it has to stay in \
                     the foreground",
                    in_words(exit)
                ))),
                LaunchEvent::JanitorLost | LaunchEvent::Cleared { .. } => Err(RunError::NotReady(
                    "the command's janitor was killed, and the command after it\n  try again".to_owned(),
                )),
            },
            answered = asking => {
                let server = answered?;
                self.send(CommandEvent::Ready { t: Mono::now() });
                Ok(Some(server))
            }
            () = sleep(limit.to_duration()) => {
                let said = last.borrow().as_ref().map(ToString::to_string);
                let why = said.as_deref().and_then(|said| said.lines().next()).unwrap_or("it took no question");
                Err(RunError::NotReady(format!(
                    "the endpoint did not answer within {}: {why}\n  raise --ready-timeout, or correct --endpoint",
                    humantime::format_duration(limit.to_duration())
                )))
            }
        }
    }

    /// Until a signal that ends the run. The command's end is noted and waited past: the requests will tell.
    pub(super) async fn interruption(&mut self) {
        while !self.over.interrupted {
            if self.over.janitor_lost {
                return std::future::pending().await;
            }
            let happened = self.watch.next().await;
            self.note(happened);
        }
    }

    /// Ends the command and all that is left of it; nothing, where it ended by itself.
    pub(super) async fn end(&mut self) {
        if self.over.exit.is_none() && !self.over.janitor_lost {
            // Whoever interrupted the run has told it.
            let ask = !self.over.interrupted;
            self.clear(|c| c.end(ask)).await;
        }
        self.sweep().await;
    }

    /// Ends what a command left that ended by itself, though at the signal that ended the run: who interrupts a run wants
    /// nothing of it to stay.
    async fn sweep(&mut self) {
        if self.over.interrupted && !self.over.by_us {
            self.clear(|c| c.end(false)).await;
            self.over.by_us = self.over.janitor_lost;
        }
    }

    /// Ends it without asking: for a command that was not let run.
    pub(super) async fn discard(&mut self) {
        self.clear(Launched::kill).await;
    }

    async fn clear(&mut self, how: impl FnOnce(&Launched<'a>)) {
        self.over.by_us = true;
        let interrupted = self.over.interrupted;
        how(self.command);
        loop {
            let happened = self.watch.next().await;
            match self.note(happened) {
                LaunchEvent::Cleared { .. } | LaunchEvent::JanitorLost => break,
                LaunchEvent::Interrupted | LaunchEvent::InterruptedAgain => self.command.kill(),
                LaunchEvent::Ended(_) => {}
            }
        }
        // Everything had been measured by then.
        self.over.interrupted = interrupted;
    }

    fn send(&self, event: CommandEvent) {
        self.events.send(Event::Command(event));
    }

    fn note(&mut self, happened: LaunchEvent) -> LaunchEvent {
        match happened {
            LaunchEvent::Ended(exit) => {
                self.over.exit = Some(exit);
                self.send(CommandEvent::Exited { t: Mono::now(), status: exit });
            }
            LaunchEvent::Cleared { left } => self.over.unkillable = left,
            LaunchEvent::Interrupted | LaunchEvent::InterruptedAgain => self.over.interrupted = true,
            LaunchEvent::JanitorLost => {
                self.over.janitor_lost = true;
                self.over.by_us = true;
                let command = self.command;
                // A panic has been told by then, and the command's end is waited for all the same.
                let _ = self.main.run(move || command.kill_without_janitor());
            }
        }
        happened
    }
}

impl Over {
    /// What a reader should know of it.
    pub(super) fn notes(&self, driven: bool, dirs_left: &[String]) -> Vec<Doubt> {
        let mut notes = Vec::new();
        if let (true, false, Some(exit)) = (driven, self.by_us, self.exit) {
            let message = format!("the command ended with {} before the load was over", in_words(exit));
            notes.push(Doubt::warn(DoubtCode::CommandEnded, &message));
        }
        if self.janitor_lost {
            notes.push(Doubt::warn(
                DoubtCode::JanitorLost,
                "the command's janitor was killed: the command was killed after it",
            ));
        }
        if self.unkillable > 0 {
            let message =
                format!("{} processes of the command could not be ended and still run", self.unkillable);
            notes.push(Doubt::warn(DoubtCode::NotEnded, &message));
        }
        if !dirs_left.is_empty() {
            let message = format!("the command's cgroup could not be removed: {}", dirs_left.join(", "));
            notes.push(Doubt::warn(DoubtCode::CgroupLeft, &message));
        }
        notes
    }
}

pub(super) fn in_words(exit: ExitStatus) -> String {
    let core = if exit.core_dumped { ", core dumped" } else { "" };
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}{core}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "an unknown status".to_owned(),
    }
}
