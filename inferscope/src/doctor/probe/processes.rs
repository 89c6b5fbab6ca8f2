//! Other processes, and which of their entries this process may open.
//!
//! Owns the attempts. It opens files, where the kernel checks the privilege, and does not read them: a sum over the
//! memory map of a large process takes time. Used by `probe`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use crate::doctor::facts::Others;
use crate::observe::proc::text;

/// Most processes looked at. More would show nothing new.
const MAX_TRIED: u32 = 256;
/// `PF_KTHREAD` (include/linux/sched.h): such a task has neither memory nor a program.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Tries the user processes below `proc`, except for `own_pid`.
pub(super) fn others(proc: &Path, own_pid: u32) -> Others {
    let mut others = Others::default();
    let Ok(entries) = fs::read_dir(proc) else { return others };
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|&pid| pid != own_pid) else { continue };
        let dir = proc.join(pid.to_string());
        let Some(flags) = text(dir.join("stat")).and_then(|stat| flags(&stat)) else {
            continue;
        };
        if flags & KERNEL_THREAD != 0 {
            continue;
        }
        // Ended in the meantime: `NotFound` or ESRCH, and nothing is refused.
        let refused = |error: Option<ErrorKind>| u32::from(error == Some(ErrorKind::PermissionDenied));
        let pss = refused(File::open(dir.join("smaps_rollup")).err().map(|e| e.kind()));
        let exe = refused(fs::read_link(dir.join("exe")).err().map(|e| e.kind()));
        let sockets = refused(descriptors(&dir.join("fd")));
        others.tried += 1;
        others.without_pss += pss;
        others.without_exe += exe;
        others.without_sockets += sockets;
        if pss + exe + sockets > 0 {
            others.example = others.example.or(Some(pid));
        }
        if others.tried == MAX_TRIED {
            break;
        }
    }
    others
}

/// Listing needs one privilege; following an entry needs another.
fn descriptors(fd: &Path) -> Option<ErrorKind> {
    let entries = match fs::read_dir(fd) {
        Ok(entries) => entries,
        Err(e) => return Some(e.kind()),
    };
    let first = entries.flatten().next()?;
    fs::read_link(first.path()).err().map(|e| e.kind())
}

/// The ninth field of stat. The second one, the name, can hold blanks and parentheses.
fn flags(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 2129984 0 0 0 0";
        assert_eq!(flags(stat), Some(2_129_984));
        assert_eq!(flags("7 (cut off"), None);
    }

    #[test]
    fn own_children_can_be_looked_into_and_kernel_threads_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        for (pid, flags) in [(2, KERNEL_THREAD), (10, 0), (11, 0)] {
            let dir = root.path().join(pid.to_string());
            fs::create_dir_all(dir.join("fd")).unwrap();
            fs::write(dir.join("stat"), format!("{pid} (x) S 1 1 1 0 -1 {flags} 0")).unwrap();
            fs::write(dir.join("smaps_rollup"), "").unwrap();
        }
        fs::write(root.path().join("version"), "").unwrap();
        assert_eq!(others(root.path(), 11), Others { tried: 1, ..Others::default() });
        assert_eq!(others(root.path(), 1).tried, 2);
        assert_eq!(others(&root.path().join("none"), 1), Others::default());
    }
}
