//! What the kernel's version decides, and what it lacks.
//!
//! Owns the oldest kernel that the program runs on, and the tracepoint of forks. Pure; the version is handed in. Used by the
//! loader and by `doctor`, which explains with it.

use std::fmt;

/// A kernel's version, without what follows the second number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// `bpf_for_each_map_elem`. Before came all else that is needed: the ring, the task iterator (5.8), task storage
    /// for tracing programs (5.11), atomic instructions that return something, `recursion_misses` (5.12).
    /// On 64-bit ARM more: the atomic instructions that return something came to its compiler with 5.18.
    pub const OLDEST: Self = if cfg!(target_arch = "aarch64") { Self(5, 18) } else { Self(5, 13) };
    /// The tracepoints' programs can be preempted, so that one of the same tracepoint may be skipped.
    const PREEMPTIBLE: Self = Self(7, 0);
    /// Task storage is allocated without the page allocator, which may want to wake a kernel thread: not allowed
    /// under a run queue's lock.
    const STORAGE_UNDER_LOCK: Self = Self(6, 4);

    /// From `uname -r`: `5.15.0-91-generic`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?))
    }

    pub(super) fn running() -> Option<Self> {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The tracepoint of forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForkHook {
    /// In the parent, which before 7.0 can't be preempted there.
    ProcessFork,
    /// A little later, with interrupts off.
    WakeupNew,
}

/// How the programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hooks {
    pub(super) fork: ForkHook,
    /// Further programs at exec and exit, for the runs that the kernel skips of the first.
    pub(super) spares: bool,
}

/// By the version; `asked` is for tests, and ignored where it would be dangerous.
pub(super) fn hooks(version: Option<Version>, asked: Option<&str>) -> Hooks {
    let is_from = |first| version.is_some_and(|version| version >= first);
    let late = match asked {
        Some("wakeup_new") => is_from(Version::STORAGE_UNDER_LOCK),
        Some("process_fork") => false,
        _ => is_from(Version::PREEMPTIBLE),
    };
    let fork = if late { ForkHook::WakeupNew } else { ForkHook::ProcessFork };
    Hooks { fork, spares: late || is_from(Version::PREEMPTIBLE) }
}

/// That the kernel is too old, where it is; then nothing else that is missing is of interest.
#[must_use]
pub fn too_old(release: &str) -> Option<String> {
    let version = Version::parse(release).filter(|version| *version < Version::OLDEST)?;
    Some(format!("kernel {version}: the kernel tracker needs {} or later", Version::OLDEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_any_distributions_release() {
        let parse = |release| Version::parse(release).map(|Version(a, b)| (a, b));
        assert_eq!(parse("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(parse("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(parse("6.18.44+deb13-amd64"), Some((6, 18)));
        assert_eq!(parse("7.0-rc1"), Some((7, 0)));
        assert_eq!([parse(""), parse("linux"), parse("6")], [None; 3]);
    }

    #[test]
    fn forks_are_told_with_interrupts_off_from_7_0_on_and_never_before_6_4() {
        let fork = |version, asked| hooks(Some(version), asked).fork;
        let default = |version| fork(version, None);
        assert_eq!([Version(5, 14), Version(6, 19)].map(default), [ForkHook::ProcessFork; 2]);
        assert_eq!([Version(7, 0), Version(7, 3), Version(8, 1)].map(default), [ForkHook::WakeupNew; 3]);
        assert_eq!(hooks(None, None).fork, ForkHook::ProcessFork);
        assert_eq!(fork(Version(6, 4), Some("wakeup_new")), ForkHook::WakeupNew);
        assert_eq!(fork(Version(6, 3), Some("wakeup_new")), ForkHook::ProcessFork);
        assert_eq!(fork(Version(7, 2), Some("process_fork")), ForkHook::ProcessFork);
    }

    #[test]
    fn what_can_be_skipped_has_spares_and_nothing_else() {
        let spares = |version, asked| hooks(Some(version), asked).spares;
        assert_eq!([spares(Version(6, 19), None), spares(Version(7, 0), None)], [false, true]);
        assert!(spares(Version(7, 0), Some("process_fork")) && spares(Version(6, 18), Some("wakeup_new")));
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named_with_the_oldest_that_is_not() {
        let oldest = if cfg!(target_arch = "aarch64") { "5.18" } else { "5.13" };
        let said = format!("kernel 5.10: the kernel tracker needs {oldest} or later");
        assert_eq!(too_old("5.10.0-28-amd64"), Some(said));
        assert_eq!(
            [too_old(&format!("{oldest}.0-427.el9")), too_old("6.1.0"), too_old("?")],
            [None, None, None]
        );
    }
}
