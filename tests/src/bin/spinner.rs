//! A process that knows what it has used: its threads spin, or spin and sleep by turns, and each notes its own CPU
//! clock now and then, which is exact for the one that reads it.
//!
//! Owns nothing else. Run by tests that hold what inferscope tells against it (`inferscope_tests::spun`).
//!
//! Usage: `spinner FILE THREADS SPIN_US SLEEP_US` (a sleep of 0: never). Of those that never sleep the first goes before
//! everything else where it may (SCHED_FIFO), so that it has a CPU all the time. Ends with its standard input, and leaves in
//! FILE for each thread the number of its notes and the notes, each the CLOCK_MONOTONIC before and the clock, all as u64.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Read, Write};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What lies between two notes of one that spins. A thread that asks for its own clock is charged, so that from outside its
/// clock would look up to date if it asked more often than the scheduler's tick.
const SPACING_NS: u64 = 11_300_000;
/// Minutes' worth.
const MOST_NOTES: usize = 100_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = args.iter().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let ([file, ..], [threads, spin_us, sleep_us]) = (&args[..], &numbers[..]) else {
        eprintln!("usage: spinner FILE THREADS SPIN_US SLEEP_US");
        exit(2);
    };
    let over = Arc::new(AtomicBool::new(false));
    let spinning: Vec<_> = (0..*threads)
        .map(|n| {
            let first = n == 0 && *sleep_us == 0;
            let (over, spin_ns, sleep) =
                (Arc::clone(&over), spin_us * 1_000, Duration::from_micros(*sleep_us));
            std::thread::spawn(move || {
                if first {
                    go_first();
                }
                notes(&over, spin_ns, sleep)
            })
        })
        .collect();
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
    over.store(true, Ordering::Relaxed);
    let mut file = BufWriter::new(File::create(file).expect("the file can be written"));
    for thread in spinning {
        let notes = thread.join().expect("it does not panic");
        let words = std::iter::once(notes.len() as u64).chain(notes.into_iter().flatten());
        for word in words {
            file.write_all(&word.to_ne_bytes()).expect("there is room");
        }
    }
    file.flush().expect("there is room");
}

fn go_first() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: a pointer to a live parameter; a refusal changes nothing.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
}

fn notes(over: &AtomicBool, spin_ns: u64, sleep: Duration) -> Vec<[u64; 2]> {
    let mut notes = Vec::with_capacity(MOST_NOTES);
    let mut turn_ends = spin_ns;
    while !over.load(Ordering::Relaxed) && notes.len() < MOST_NOTES {
        let note = [read(ClockId::Monotonic), read(ClockId::ThreadCPUTime)];
        notes.push(note);
        if !sleep.is_zero() && note[1] >= turn_ends {
            std::thread::sleep(sleep);
            turn_ends = read(ClockId::ThreadCPUTime) + spin_ns;
            continue;
        }
        // Until the next note, or for the turn; the monotonic clock is read without a system call.
        let spinning =
            if sleep.is_zero() { SPACING_NS } else { turn_ends.saturating_sub(note[1]).min(SPACING_NS) };
        while read(ClockId::Monotonic) < note[0] + spinning {
            black_box(());
        }
    }
    notes
}

fn read(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}
