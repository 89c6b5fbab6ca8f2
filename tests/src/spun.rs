//! A process that spins and knows what it has used.
//!
//! Owns the `spinner` and its notes. What a thread had used at a moment lies between two notes of it, and it can't have
//! used more than the time: of one that had the CPU all the time between them that leaves microseconds, of one that
//! waited for it as much as it waited. Called by tests of the set's CPU.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::binary::sibling;
use crate::process::Group;

/// Between a note's time and its clock's reading, of one that is not interrupted there.
const READING_NS: u64 = 5_000;
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Spinner {
    group: Group,
    dir: tempfile::TempDir,
}

/// A thread's notes: CLOCK_MONOTONIC before, and the thread's CPU clock.
#[derive(Debug)]
pub struct Notes(Vec<Vec<[u64; 2]>>);

impl Spinner {
    /// So many threads, each of which spins for `spin_us` and sleeps for `sleep_us` by turns.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(threads: u32, spin_us: u32, sleep_us: u32) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let mut command = Command::new(sibling("spinner"));
        command.arg(dir.path().join("notes"));
        command.args([threads, spin_us, sleep_us].map(|n| n.to_string()));
        let group = Group::talking(&mut command);
        assert_eq!(group.line(LIMIT), "ready");
        Self { group, dir }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("notes")
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it does not end well.
    #[must_use]
    pub fn notes(mut self) -> Notes {
        drop(self.group.stdin());
        assert!(self.group.wait(LIMIT).success());
        let bytes = std::fs::read(self.file()).expect("it has written its notes");
        let mut words = bytes.chunks_exact(8).map(|w| u64::from_ne_bytes(w.try_into().expect("eight bytes")));
        let mut threads = Vec::new();
        while let Some(notes) = words.next() {
            let note = |_| [words.next(), words.next()].map(|word| word.expect("both of a note"));
            threads.push((0..notes).map(note).collect());
        }
        Notes(threads)
    }
}

impl Notes {
    /// The least and the most that all threads had used at `t`, since they began; `None` outside of the notes.
    #[must_use]
    pub fn used_at(&self, t: u64) -> Option<(u64, u64)> {
        let (mut least, mut most) = (0, 0);
        for notes in &self.0 {
            let later = notes.partition_point(|note| note[0] <= t);
            let [[t0, cpu0], [t1, cpu1]] = [notes.get(later.checked_sub(1)?)?, notes.get(later)?];
            least += (*cpu0).max(cpu1.saturating_sub(t1 - t + READING_NS));
            most += (*cpu1).min(cpu0 + (t - t0));
        }
        Some((least, most.max(least)))
    }
}
