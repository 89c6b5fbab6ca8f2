//! The shutdown of a command: the order of signals, and when it is over.
//!
//! Pure: time and facts are arguments. The janitor steps it until it is done.

use crate::clock::Mono;
use crate::units::Nanos;

/// A killed process is gone within milliseconds, unless it hangs in the kernel.
const KILL_LIMIT: Nanos = Nanos::from_millis(5_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommandState {
    pub(super) command_lives: bool,
    /// Living members, the command itself included.
    pub(super) members: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Wait,
    /// SIGTERM to every member: the command is gone. It may have been a wrapper, and the wrapped program has a right to
    /// the same grace period.
    AskMembers,
    /// SIGKILL to every member. Repeated as long as something forks.
    Kill,
    /// The end, with this many members that could not be killed.
    Done {
        left: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shutdown {
    kill_at: Mono,
    members_asked: bool,
    killed: Option<Mono>,
}

impl Shutdown {
    pub(super) const fn new(now: Mono, grace: Nanos) -> Self {
        Self { kill_at: now.plus(grace), members_asked: false, killed: None }
    }

    /// Ends the grace period.
    pub(super) fn hurry(&mut self, now: Mono) {
        self.kill_at = self.kill_at.min(now);
    }

    pub(super) fn step(&mut self, now: Mono, facts: CommandState) -> Action {
        if !facts.command_lives && facts.members == 0 {
            return Action::Done { left: 0 };
        }
        if now >= self.kill_at {
            let since = now.since(*self.killed.get_or_insert(now));
            return if since < KILL_LIMIT {
                Action::Kill
            } else {
                Action::Done { left: facts.members.max(1) }
            };
        }
        if !facts.command_lives && !self.members_asked {
            self.members_asked = true;
            return Action::AskMembers;
        }
        Action::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Nanos = Nanos::from_millis(10_000);

    fn ms(n: u64) -> Mono {
        Mono(n * 1_000_000)
    }

    fn facts(command_lives: bool, members: u32) -> CommandState {
        CommandState { command_lives, members }
    }

    #[test]
    fn a_command_that_ends_with_all_of_its_own_is_done() {
        let mut shutdown = Shutdown::new(ms(0), GRACE);
        assert_eq!(shutdown.step(ms(20), facts(true, 3)), Action::Wait);
        assert_eq!(shutdown.step(ms(40), facts(false, 0)), Action::Done { left: 0 });
    }

    #[test]
    fn what_a_wrapper_leaves_is_asked_once_and_has_the_rest_of_the_grace() {
        let mut shutdown = Shutdown::new(ms(0), GRACE);
        assert_eq!(shutdown.step(ms(20), facts(false, 2)), Action::AskMembers);
        assert_eq!(shutdown.step(ms(40), facts(false, 2)), Action::Wait);
        assert_eq!(shutdown.step(ms(9_999), facts(false, 1)), Action::Wait);
        assert_eq!(shutdown.step(ms(10_000), facts(false, 1)), Action::Kill);
        assert_eq!(shutdown.step(ms(10_020), facts(false, 0)), Action::Done { left: 0 });
    }

    #[test]
    fn who_does_not_listen_is_killed_after_the_grace_or_when_it_is_taken_back() {
        let mut shutdown = Shutdown::new(ms(0), GRACE);
        assert_eq!(shutdown.step(ms(9_999), facts(true, 1)), Action::Wait);
        assert_eq!(shutdown.step(ms(10_000), facts(true, 1)), Action::Kill);
        let mut hurried = Shutdown::new(ms(0), GRACE);
        hurried.hurry(ms(5));
        assert_eq!(hurried.step(ms(5), facts(true, 1)), Action::Kill);
    }

    #[test]
    fn what_can_not_be_killed_is_counted_and_not_waited_for() {
        let mut shutdown = Shutdown::new(ms(0), GRACE);
        shutdown.hurry(ms(0));
        assert_eq!(shutdown.step(ms(0), facts(true, 2)), Action::Kill);
        assert_eq!(shutdown.step(ms(4_999), facts(true, 2)), Action::Kill);
        assert_eq!(shutdown.step(ms(5_000), facts(true, 2)), Action::Done { left: 2 });
        // It moved to another cgroup and hangs there.
        assert_eq!(shutdown.step(ms(5_000), facts(true, 0)), Action::Done { left: 1 });
    }
}
