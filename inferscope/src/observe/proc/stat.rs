//! The parser of /proc/PID/stat and statm, which allocates only the name.
//!
//! Pure. It reads only the fields that a tick needs: at 20 looks a second over thousands of processes this is
//! inferscope's own cost. The layout is that of proc_pid_stat(5).

/// The fields that a tick takes from /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat<'a> {
    /// May hold spaces and parentheses; not always UTF-8.
    pub(crate) comm: &'a [u8],
    pub(crate) state: u8,
    pub(crate) ppid: u32,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) utime_ticks: u64,
    pub(crate) stime_ticks: u64,
    /// CPU of the children that were waited for, and of theirs.
    pub(crate) cutime_ticks: u64,
    pub(crate) cstime_ticks: u64,
    pub(crate) threads: u32,
    pub(crate) start_ticks: u64,
}

impl Stat<'_> {
    /// Its first thread has ended. The process lives on while others have not.
    pub(crate) const fn leader_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// All its threads have ended. Perhaps nobody has waited for it yet.
    pub(crate) const fn is_dead(&self) -> bool {
        self.leader_ended() && self.threads <= 1
    }
}

/// Parses `PID (COMM) STATE PPID …`. `None`: the text is no such line.
pub(crate) fn stat(line: &[u8]) -> Option<Stat<'_>> {
    let open = line.iter().position(|&b| b == b'(')?;
    // The last parenthesis ends the name, whatever the name holds.
    let close = line.iter().rposition(|&b| b == b')').filter(|close| *close > open)?;
    let mut fields = line.get(close + 2..)?.split(|&b| b == b' ');
    let state = *fields.next()?.first()?;
    let ppid = number(fields.next()?)?;
    // From here on fields have the numbers of the manual page, which begins with 1.
    let mut at = 5;
    let mut field = |n: usize| {
        let found = fields.nth(n - at)?;
        at = n + 1;
        number(found)
    };
    Some(Stat {
        comm: &line[open + 1..close],
        state,
        ppid: u32::try_from(ppid).ok()?,
        minor_faults: field(10)?,
        major_faults: field(12)?,
        utime_ticks: field(14)?,
        stime_ticks: field(15)?,
        cutime_ticks: field(16)?,
        cstime_ticks: field(17)?,
        threads: u32::try_from(field(20)?).ok()?,
        start_ticks: field(22)?,
    })
}

/// The second number of statm: resident pages.
pub(crate) fn resident_pages(statm: &[u8]) -> Option<u64> {
    number(statm.split(|&b| b == b' ').nth(1)?)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::process::Process;
    use proptest::prelude::*;

    const LINE: &[u8] = b"42 (a) b (c) S 7 42 42 0 -1 4194560 101 0 3 0 15 6 21 8 20 0 5 0 987 1000 64 0 0\n";

    #[test]
    fn a_name_may_hold_what_it_likes() {
        let got = stat(LINE).unwrap();
        assert_eq!((got.comm, got.state, got.ppid), (&b"a) b (c"[..], b'S', 7));
        assert_eq!((got.minor_faults, got.major_faults), (101, 3));
        assert_eq!((got.cutime_ticks, got.cstime_ticks), (21, 8));
        assert_eq!((got.utime_ticks, got.stime_ticks, got.threads, got.start_ticks), (15, 6, 5, 987));
    }

    #[test]
    fn a_process_whose_first_thread_ended_lives_as_long_as_another_does() {
        let of = |state: &str, threads: u32| {
            let line = format!(
                "42 (a) {state} 7 42 42 0 -1 4194560 101 0 3 0 15 6 21 8 20 0 {threads} 0 987 0 0 0\n"
            );
            let stat = stat(line.as_bytes()).unwrap();
            (stat.leader_ended(), stat.is_dead())
        };
        assert_eq!((of("S", 1), of("S", 5)), ((false, false), (false, false)));
        assert_eq!((of("Z", 5), of("X", 2)), ((true, false), (true, false)));
        assert_eq!((of("Z", 1), of("X", 0)), ((true, true), (true, true)));
    }

    #[test]
    fn it_agrees_with_procfs_on_this_very_process() {
        let process = Process::myself().unwrap();
        let theirs = process.stat().unwrap();
        let line = std::fs::read("/proc/self/stat").unwrap();
        let ours = stat(&line).unwrap();
        assert_eq!(String::from_utf8_lossy(ours.comm), theirs.comm);
        assert_eq!((ours.ppid, ours.start_ticks), (theirs.ppid as u32, theirs.starttime));
        assert_eq!(ours.state as char, theirs.state);
        let statm = std::fs::read("/proc/self/statm").unwrap();
        let pages = process.statm().unwrap().resident;
        assert!(resident_pages(&statm).unwrap().abs_diff(pages) < 10_000);
    }

    #[test]
    fn what_is_cut_is_none() {
        for end in 0..LINE.len() - 20 {
            assert_eq!(stat(&LINE[..end]), None, "{end}");
        }
        assert_eq!(resident_pages(b""), None);
        assert_eq!(resident_pages(b"12"), None);
        assert_eq!(resident_pages(b"12 34 5"), Some(34));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = stat(&bytes);
            let _ = resident_pages(&bytes);
        }
    }
}
