//! The load's thread, and the main one beside it.
//!
//! Owns the division of a run: what meets a server's bytes works in a thread of its own, which gives up every privilege
//! before; what needs one it asks of the main thread, as an errand. A panic of either is an error of the run. Knows nothing of
//! loads. Called by `run` and `run::exec`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::RunError;

type Errand<'env> = Box<dyn FnOnce() + Send + 'env>;

/// As much as the main thread has on most systems.
const STACK_BYTES: usize = 8 << 20;

/// The way to the main thread.
pub(super) struct Errands<'env>(Sender<Errand<'env>>);

impl<'env> Errands<'env> {
    /// Done by the main thread, with what it may do; waits for it.
    ///
    /// # Errors
    /// It panicked.
    pub(super) fn run<T: Send + 'env>(
        &self,
        errand: impl FnOnce() -> T + Send + 'env,
    ) -> Result<T, RunError> {
        let (tell, told) = channel();
        // The main thread does errands for as long as this one lives, and it takes what comes of them.
        let _ = self.0.send(Box::new(move || drop(tell.send(errand()))));
        told.recv().map_err(|_| RunError::Panicked("the main thread"))
    }
}

/// Does `work` in a thread of that name, and meanwhile its errands in this one.
///
/// # Errors
/// There is no further thread, or it panicked.
pub(super) fn apart<'env, T: Send + 'env>(
    name: &str,
    work: impl FnOnce(&Errands<'env>) -> Result<T, RunError> + Send + 'env,
) -> Result<T, RunError> {
    let (tell, errands): (_, Receiver<Errand<'env>>) = channel();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || work(&Errands(tell)))
            .map_err(|source| RunError::System { what: "the load's thread can't be started", source })?;
        // To the end of the thread, which holds the other end.
        for errand in errands {
            // Told on standard error by then, and to who asked for it by what does not come.
            let _ = catch_unwind(AssertUnwindSafe(errand));
        }
        thread.join().unwrap_or(Err(RunError::Panicked("the load's thread")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_either_thread_is_an_error_and_no_end() {
        let of_load: Result<(), _> = apart("load", |_| panic!("as a test wants it"));
        assert!(matches!(of_load, Err(RunError::Panicked("the load's thread"))), "{of_load:?}");
        let after = apart("load", |errands| {
            let of_errand: Result<(), _> = errands.run(|| panic!("as a test wants it"));
            assert!(matches!(of_errand, Err(RunError::Panicked("the main thread"))), "{of_errand:?}");
            errands.run(|| 7)
        });
        assert_eq!(after.ok(), Some(7), "the next errand is done");
    }
}
