//! Why the kernel tracker can't be had.
//!
//! Owns the error that reaches the user. Made by the tracker and what loads its programs.

use inferscope_common::MAX_ROOTS;

use super::loader::ObjectError;
use super::offsets::OffsetError;

/// Why the kernel tracker can't be had; each with what would help.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    #[error(
        "the kernel has no BTF ({0}); it needs CONFIG_DEBUG_INFO_BTF and a readable /sys/kernel/btf/vmlinux"
    )]
    NoBtf(String),
    /// Named instead of whatever it lacks.
    #[error("{0}")]
    TooOld(String),
    #[error("this kernel's cgroups do not tell what they are below of, so that none can be a target")]
    NoAncestors,
    #[error("{0}")]
    Offsets(#[from] OffsetsError),
    #[error("the kernel refused it: {0}; it needs root, or CAP_BPF and CAP_PERFMON")]
    Refused(String),
    #[error(
        "the task iterator does not find inferscope itself in its pid namespace; run it in the host's (docker run --pid=host)"
    )]
    NoIdentity,
    #[error("{0} roots are more than the {MAX_ROOTS} it can follow")]
    TooManyRoots(usize),
    #[error("the target grew in each of {0} looks at it, so that the living can't be told")]
    NeverSettled(usize),
    #[error(
        "the kernel does not show process {0} to tracing programs, so that what it forks can't be told; \
         --tracker proc follows it"
    )]
    HiddenRoot(u32),
    #[error("the snapshot of the living can't be read: {0}")]
    Snapshot(std::io::Error),
}

/// A kernel whose structs are not as expected.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OffsetsError(pub(super) OffsetError);

impl From<ObjectError> for EbpfError {
    fn from(error: ObjectError) -> Self {
        refused(error)
    }
}

pub(super) fn refused(error: impl std::error::Error) -> EbpfError {
    tracing::debug!("kernel tracker: {error:?}");
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    EbpfError::Refused(text.lines().next().unwrap_or_default().to_owned())
}
