//! A member executed another program.

use inferscope_common::event::exec::{ARGV_LEN, ExecRecord};

use super::record::{Decode, What, text};
use crate::observe::ebpf::tracepoint::{Stage, Tracepoint};
use crate::units::pages_to_bytes;

pub(super) const ON_EXEC: Tracepoint = Tracepoint {
    program: "on_exec",
    at: "sched_process_exec",
    stage: Stage::Births,
    // No other tracepoint has what was executed.
    spares: 3,
    is_used: |_| true,
    missed: |runs| &mut runs.execs,
};

impl Decode for ExecRecord {
    fn decode(&self, page_bytes: u64) -> What {
        let exe = text(&self.exe);
        let len = usize::try_from(self.head.argv_len).unwrap_or(usize::MAX);
        let held = len.min(ARGV_LEN);
        What::Exec {
            comm: text(&self.head.comm),
            exe: (!exe.is_empty()).then_some(exe),
            argv: (held > 0).then(|| arguments(&self.argv[..held])),
            cut: len > held,
            rss_before_bytes: pages_to_bytes(self.head.maxrss_pages.into(), page_bytes),
        }
    }
}

fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    bytes.split(|&b| b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn a_command_line_longer_than_the_record_is_cut_and_an_unread_one_unknown() {
        let decoded = |argv_len, argv: &[u8]| {
            let mut record = ExecRecord::zeroed();
            record.head.argv_len = argv_len;
            record.argv[..argv.len()].copy_from_slice(argv);
            match record.decode(4096) {
                What::Exec { argv, cut, .. } => (argv, cut),
                other => panic!("{other:?}"),
            }
        };
        let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(decoded(7, b"ls\0-la\0"), (words(&["ls", "-la"]), false));
        // What lies beyond the length is left over from an older record.
        assert_eq!(decoded(3, b"ls\0-la\0"), (words(&["ls"]), false));
        assert_eq!(decoded(0, b"ls\0"), (None, false));
        let (argv, cut) = decoded(1_000, &[b'x'; ARGV_LEN]);
        assert_eq!((argv.unwrap()[0].len(), cut), (ARGV_LEN, true));
    }
}
