//! The meaning of a signal to inferscope, for the command and for the run.
//!
//! Pure: the time is an argument. Called by `launch` for each signal.

use rustix::process::Signal;

use crate::clock::Mono;
use crate::signals::Signalled;
use crate::units::Nanos;

/// The signals that go to the command. All others keep their meaning for inferscope.
pub(super) const PASSED_ON: [Signal; 7] =
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Nobody repeats a signal on purpose within this time: timeout(1) and the like signal a process and then its group.
const SAME_WISH: Nanos = Nanos::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) pass_on: Option<Signal>,
    pub(super) stop_request: Option<StopRequest>,
}

/// What the run must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopRequest {
    /// End the run: SIGINT, SIGTERM, SIGHUP or SIGQUIT.
    End,
    /// End it at once: the same again.
    EndNow,
}

#[derive(Debug, Default)]
pub(super) struct SignalForwarding {
    asked: Option<Mono>,
}

impl SignalForwarding {
    /// A terminal's keys reach the command by themselves, as it is in the same process group. A signal that somebody
    /// sent to inferscope alone must be forwarded.
    pub(super) fn decide(&mut self, signalled: Signalled, now: Mono) -> Decision {
        let signal = PASSED_ON.into_iter().find(|s| s.as_raw() == signalled.signal);
        let pass_on = signal.filter(|_| !signalled.by_kernel);
        if !signal.is_some_and(ends) {
            return Decision { pass_on, stop_request: None };
        }
        match self.asked {
            None => {
                self.asked = Some(now);
                Decision { pass_on, stop_request: Some(StopRequest::End) }
            }
            Some(asked) if now.since(asked) < SAME_WISH => Decision { pass_on: None, stop_request: None },
            Some(_) => Decision { pass_on: None, stop_request: Some(StopRequest::EndNow) },
        }
    }
}

/// SIGHUP means that the terminal is gone. SIGQUIT asks for a core dump, and for an end, too.
fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Mono {
        Mono(n * 1_000_000)
    }

    fn decide(forwarding: &mut SignalForwarding, signal: Signal, by_kernel: bool, at: u64) -> Decision {
        forwarding.decide(Signalled { signal: signal.as_raw(), by_kernel }, ms(at))
    }

    #[test]
    fn what_was_sent_is_passed_on_and_what_was_typed_is_not() {
        for signal in PASSED_ON {
            let sent = decide(&mut SignalForwarding::default(), signal, false, 0);
            assert_eq!(sent.pass_on, Some(signal));
            let typed = decide(&mut SignalForwarding::default(), signal, true, 0);
            assert_eq!(typed.pass_on, None);
            let ends = !matches!(signal, Signal::USR1 | Signal::USR2 | Signal::WINCH);
            for decision in [sent, typed] {
                assert_eq!(decision.stop_request, ends.then_some(StopRequest::End), "{signal:?}");
            }
        }
    }

    #[test]
    fn the_second_wish_is_for_a_kill() {
        let mut forwarding = SignalForwarding::default();
        assert_eq!(decide(&mut forwarding, Signal::INT, true, 0).stop_request, Some(StopRequest::End));
        let again = Decision { pass_on: None, stop_request: Some(StopRequest::EndNow) };
        assert_eq!(decide(&mut forwarding, Signal::INT, true, 400), again);
        assert_eq!(decide(&mut forwarding, Signal::TERM, false, 500), again);
    }

    #[test]
    fn one_wish_that_comes_twice_is_one() {
        let mut forwarding = SignalForwarding::default();
        assert_eq!(decide(&mut forwarding, Signal::TERM, false, 0).stop_request, Some(StopRequest::End));
        let nothing = Decision { pass_on: None, stop_request: None };
        assert_eq!(decide(&mut forwarding, Signal::TERM, false, 299), nothing);
        assert_eq!(decide(&mut forwarding, Signal::TERM, false, 300).stop_request, Some(StopRequest::EndNow));
    }

    #[test]
    fn other_signals_end_nothing_however_often() {
        let mut forwarding = SignalForwarding::default();
        for at in [0, 1_000, 2_000] {
            let passed = Decision { pass_on: Some(Signal::USR1), stop_request: None };
            assert_eq!(decide(&mut forwarding, Signal::USR1, false, at), passed);
        }
        assert_eq!(decide(&mut forwarding, Signal::INT, true, 3_000).stop_request, Some(StopRequest::End));
        let unknown = forwarding.decide(Signalled { signal: 0, by_kernel: false }, ms(9_000));
        assert_eq!(unknown, Decision { pass_on: None, stop_request: None });
    }
}
