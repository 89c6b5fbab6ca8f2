//! A copy of inferscope that has more than whoever runs it, as `setcap` or a set-user-ID bit makes it.
//!
//! Owns the copy, where everybody can reach it, and how an ordinary user starts it. Needs root. Called by the tests of
//! privileges.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;

/// An ordinary user; every system has that one.
pub const NOBODY: &str = "65534";

/// Ends with it.
#[derive(Debug)]
pub struct Elevated {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Elevated {
    fn copy() -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).expect("it was made here");
        let program = dir.path().join("inferscope");
        std::fs::copy(binary::inferscope_bin(), &program).expect("there is room for a copy");
        Self { dir, program }
    }

    /// As after `setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep`.
    ///
    /// # Panics
    /// Where file capabilities can't be set.
    #[must_use]
    pub fn by_capabilities() -> Self {
        let copy = Self::copy();
        // `vfs_cap_data` of include/uapi/linux/capability.h, revision 2 with the effective bit.
        let [low, high] = [1_u32 << 2 | 1 << 19, 1 << 6 | 1 << 7];
        let words = [0x0200_0001, low, 0, high, 0];
        let value: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&copy.program, "security.capability", &value, flags)
            .expect("root may set file capabilities");
        copy
    }

    /// Set-user-ID root.
    ///
    /// # Panics
    /// When the mode can't be set.
    #[must_use]
    pub fn by_user_id() -> Self {
        let copy = Self::copy();
        std::fs::set_permissions(&copy.program, std::fs::Permissions::from_mode(0o4755))
            .expect("it is root's own");
        copy
    }

    /// Where the copy lies; everybody may look into it, and only root write.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The copy with these arguments, for an ordinary user without any capability.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = as_nobody();
        command.arg(&self.program).args(args);
        command
    }
}

/// What runs its arguments as an ordinary user without any capability.
#[must_use]
pub fn as_nobody() -> Command {
    let mut command = Command::new(binary::sibling("reduced"));
    command.args(["--uid", NOBODY, "--caps", "", "--keep-bounding", "--"]);
    command
}
