//! What is known of programs by name.
//!
//! Owns the words by which runtimes and servers call their own processes. Pure. A part of `roles`; what is not listed
//! here is judged by what it does.

/// A process that a runtime keeps for itself beside the workers.
pub(super) fn is_service(argv: &[String]) -> bool {
    /// Python's, which watch over shared memory and semaphores: `python -c 'from multiprocessing.resource_tracker …'`.
    const TRACKERS: [&str; 2] = ["multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker"];
    /// Titles that servers give to forks of theirs.
    const TITLES: [&str; 11] = [
        "nginx: cache manager process",
        "nginx: cache loader process",
        "postgres: checkpointer",
        "postgres: background writer",
        "postgres: walwriter",
        "postgres: autovacuum launcher",
        "postgres: logical replication launcher",
        "postgres: logger",
        "postgres: archiver",
        "postgres: stats collector",
        "postgres: startup",
    ];
    let titled = argv.first().is_some_and(|title| TITLES.iter().any(|known| title.starts_with(known)));
    titled || argv.iter().any(|a| TRACKERS.iter().any(|known| a.contains(known)))
}

/// Python's, which forks the workers of `multiprocessing` in its parent's stead.
pub(super) fn is_forkserver(argv: &[String]) -> bool {
    argv.iter().any(|a| a.contains("multiprocessing.forkserver"))
}

/// A worker that Python's `multiprocessing` spawned: `python -c 'from multiprocessing.spawn …'
/// --multiprocessing-fork`. A long command line is cut at its end.
pub(super) fn is_python_spawned(argv: &[String]) -> bool {
    argv.iter().any(|a| a.contains("multiprocessing.spawn") || a == "--multiprocessing-fork")
}

pub(super) fn is_shell(comm: &str) -> bool {
    matches!(comm, "sh" | "bash" | "dash" | "ash" | "busybox" | "zsh" | "ksh" | "mksh" | "fish")
}
