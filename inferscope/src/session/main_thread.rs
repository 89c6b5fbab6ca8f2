//! The main thread beside the load's thread.
//!
//! Owns the division of a run: the thread that meets a server's bytes is one of its own and gives up every privilege first. What
//! needs a privilege is a task that it hands to the main thread and waits for. A panic of either is an error of the run. Knows
//! nothing of loads. Called by `session`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::RunError;

pub(super) type Task<'env> = Box<dyn FnOnce() + Send + 'env>;

/// As much as the main thread has on most systems.
const STACK_BYTES: usize = 8 << 20;

/// The way to the main thread.
pub(super) enum MainThread<'env> {
    /// It is this one.
    Here,
    /// It takes tasks beside this one.
    Apart(Sender<Task<'env>>),
}

impl<'env> MainThread<'env> {
    /// Done by the main thread, with what it may do; waits for it.
    ///
    /// # Errors
    /// It panicked.
    pub(super) fn run<T: Send + 'env>(&self, task: impl FnOnce() -> T + Send + 'env) -> Result<T, RunError> {
        let tasks = match self {
            Self::Here => return Ok(task()),
            Self::Apart(tasks) => tasks,
        };
        let (result, done) = channel();
        // The main thread takes tasks for as long as this one lives.
        let _ = tasks.send(Box::new(move || drop(result.send(task()))));
        done.recv().map_err(|_| RunError::Panicked("the main thread"))
    }

    /// Whether this thread is another than the main one.
    pub(super) const fn is_apart(&self) -> bool {
        matches!(self, Self::Apart(_))
    }
}

/// Does `work` in a thread of that name, and meanwhile its tasks in this one.
///
/// # Errors
/// There is no further thread, or it panicked.
pub(super) fn beside_main<'env, T: Send + 'env>(
    name: &str,
    work: impl FnOnce(&MainThread<'env>) -> Result<T, RunError> + Send + 'env,
) -> Result<T, RunError> {
    let (to_main, tasks): (_, Receiver<Task<'env>>) = channel();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || work(&MainThread::Apart(to_main)))
            .map_err(|source| RunError::System { what: "the load's thread can't be started", source })?;
        // Until the thread ends, which holds the sending end.
        for task in tasks {
            // Its panic has been printed by then; who waits for the task finds the channel closed.
            let _ = catch_unwind(AssertUnwindSafe(task));
        }
        thread.join().unwrap_or(Err(RunError::Panicked("the load's thread")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_either_thread_is_an_error_and_no_end() {
        let of_load: Result<(), _> = beside_main("load", |_| panic!("as a test wants it"));
        assert!(matches!(of_load, Err(RunError::Panicked("the load's thread"))), "{of_load:?}");
        let after = beside_main("load", |main| {
            let of_task: Result<(), _> = main.run(|| panic!("as a test wants it"));
            assert!(matches!(of_task, Err(RunError::Panicked("the main thread"))), "{of_task:?}");
            main.run(|| 7)
        });
        assert_eq!(after.ok(), Some(7), "the next task is done");
    }
}
