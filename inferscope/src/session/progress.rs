//! What a person sees while the load runs.
//!
//! Owns the bar on a terminal and the lines at the phases' ends, both on stderr. The bar is a view of the collector's snapshots,
//! drawn by a thread of its own: neither a request nor a token waits for a terminal. What it shows is provisional, and in no
//! report. Called by `drive_load`.

mod live_stats;
mod screen;

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::aggregate::Snapshot;
use crate::aggregate::load::PhaseSummary;
use crate::clean::clean;
use crate::clock::Mono;
use crate::console;
use crate::hub::Snapshots;
use crate::plan::{CommandOutput, CommandPlan, LoadPlan, OutputPlan};
use crate::report::humanize::{count, nanos, number, or_dash};

use super::live_view::LiveView;
use live_stats::{Course, LiveStats};
use screen::Screen;

/// Time between two drawings.
const REDRAW: Duration = Duration::from_millis(250);
/// For the last one: the report waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on a terminal, lines elsewhere, nothing where it is not wanted.
pub(super) struct Progress {
    course: Option<Course>,
    phases_ended: usize,
    bar: Option<Bar>,
}

/// A command's output and the progress would write over each other.
pub(super) fn has_room(command: &CommandPlan) -> bool {
    command.output != CommandOutput::Stderr
}

fn on_terminal(plan: &OutputPlan) -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !plan.quiet && !dumb && std::io::stderr().is_terminal()
}

impl Progress {
    /// Where somebody else writes to the terminal.
    pub(super) const fn none() -> Self {
        Self { course: None, phases_ended: 0, bar: None }
    }

    /// `open` begins a view: it costs the collector a snapshot ten times a second.
    pub(super) fn of(
        load: &LoadPlan,
        output: &OutputPlan,
        open: impl FnOnce() -> Snapshots<Snapshot>,
    ) -> Self {
        if output.quiet {
            return Self::none();
        }
        let course = Course::of(load);
        let bar = on_terminal(output).then(|| Bar::start(LiveStats::of(course.clone()), open())).flatten();
        Self { course: Some(course), phases_ended: 0, bar }
    }

    /// A phase has ended; `saturated`: why it was the last.
    pub(super) fn phase(&mut self, summary: &PhaseSummary, saturated: Option<&str>) {
        let Some(course) = &self.course else { return };
        let name = course.name(self.phases_ended);
        self.phases_ended += 1;
        // The end of a single phase is that of the run, and the report says it.
        if name.is_empty() {
            return;
        }
        self.say(&format!("{name}: {}", result(summary)));
        if let Some(why) = saturated {
            self.say(&format!("the sweep ends here: {why}"));
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.shown.println(clean(line)),
            None => console::say(line),
        }
    }
}

fn result(s: &PhaseSummary) -> String {
    format!(
        "{} ok, {} failed; {} tokens/s; TTFT p50 {}, p99 {}",
        count(s.ok),
        count(s.failed),
        or_dash(s.output_tokens_per_s, number),
        or_dash(s.ttft_p50, |t| nanos(t.0)),
        or_dash(s.ttft_p99, |t| nanos(t.0)),
    )
}

/// The bar and the thread that draws it, until it is dropped: nothing is written after that, unless the terminal was
/// stopped within a drawing.
struct Bar {
    shown: ProgressBar,
    over: Option<Sender<()>>,
    /// Cut off when the drawer has ended, however it did.
    drawing: Receiver<()>,
    drawer: Option<JoinHandle<()>>,
}

impl Bar {
    /// `None`: there is no thread to be had, and lines will do.
    fn start(view: impl LiveView + Send + 'static, snapshots: Snapshots<Snapshot>) -> Option<Self> {
        let shown =
            ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::<Screen>::default()));
        let style = ProgressStyle::with_template("{wide_msg}").ok()?;
        shown.set_style(style);
        let (over, ending) = channel::<()>();
        let (alive, drawing) = channel::<()>();
        let drawn = shown.clone();
        let draw = move || {
            let _alive = alive;
            while ending.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
                if let Some(latest) = snapshots.latest() {
                    drawn.set_message(clean(&view.render(&latest, Mono::now())).into_owned());
                }
            }
            drawn.finish_and_clear();
        };
        let drawer = std::thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()?;
        Some(Self { shown, over: Some(over), drawing, drawer: Some(drawer) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        drop(self.over.take());
        let has_ended = self.drawing.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected);
        if let Some(drawer) = self.drawer.take().filter(|_| has_ended) {
            // Its panic has been printed; a run is not lost to a bar.
            let _ = drawer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Endpoint, Shape};
    use crate::units::Nanos;

    #[test]
    fn a_phases_result_has_a_dash_for_what_is_unknown() {
        let summary = PhaseSummary {
            ok: 1_200,
            failed: 3,
            output_tokens_per_s: Some(412.3),
            ttft_p50: Some(Nanos::from_millis(41)),
            ttft_p99: None,
        };
        assert_eq!(result(&summary), "1,200 ok, 3 failed; 412 tokens/s; TTFT p50 41.0 ms, p99 –");
    }

    #[test]
    fn quiet_shows_nothing() {
        let mut load = LoadPlan::to(Endpoint::parse("http://h").unwrap());
        load.steps = [1, 2].map(|concurrency| Shape::Closed { concurrency }).to_vec();
        let output = OutputPlan { quiet: true, ..crate::fixture::plan().output };
        let progress = Progress::of(&load, &output, || unreachable!("no view is opened"));
        assert!(progress.course.is_none() && progress.bar.is_none());
    }
}
