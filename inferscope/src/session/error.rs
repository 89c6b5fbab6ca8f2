//! Why a run gave no report, and the exit code of each reason.
//!
//! Owns the one error type of `session`, and what to do about what only a session meets. Read by `main`.

use super::exit;
use super::limits::{LEAST_FILES, LEAST_SPACE_BYTES};
use super::output::OutputError;
use crate::demo::DemoError;
use crate::launch::LaunchError;
use crate::load::LoadError;
use crate::observe::ObserveError;
use crate::observe::gpu::GpuError;
use crate::observe::target_discovery::TargetError;

/// Why a run gave no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("{url} answers before the command was started\n  end what listens there, or choose another port")]
    EndpointTaken { url: String },
    #[error("{0}")]
    NotReady(String),
    #[error("no measured request succeeded ({failed} failed): {example}\n  {remedy}")]
    AllFailed { failed: u64, example: String, remedy: &'static str },
    #[error(
        "interrupted before anything was measured\n  there is no report; an older one in its place is left as it was"
    )]
    Interrupted,
    #[error("the load panicked\n  please report this as a bug")]
    LoadPanicked,
    #[error("{0} panicked\n  please report this as a bug")]
    Panicked(&'static str),
    #[error("the observing thread panicked\n  please report this as a bug")]
    ObserverPanicked,
    #[error(
        "inferscope may open only {files} files, and takes {LEAST_FILES} at least\n  raise the limit: ulimit -Hn as root, \
         LimitNOFILE= of systemd, docker run --ulimit nofile="
    )]
    FewFiles { files: u64 },
    #[error(
        "inferscope may have only {mib} MiB of address space, and takes {} MiB at least\n  raise the limit: ulimit -v \
         unlimited, LimitAS= of systemd; --max-memory bounds what it really takes",
        LEAST_SPACE_BYTES >> 20
    )]
    LittleSpace { mib: u64 },
    #[error("{what}: {source}\n  check the limits on processes and open files")]
    System { what: &'static str, source: std::io::Error },
}

impl RunError {
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Load(e) if e.is_usage() => exit::USAGE,
            Self::Launch(e) if e.is_usage() => exit::USAGE,
            Self::Load(_)
            | Self::EndpointTaken { .. }
            | Self::NotReady(_)
            | Self::Target(_)
            | Self::AllFailed { .. }
            | Self::Observe(ObserveError::TargetGone(_)) => exit::NOTHING_MEASURED,
            Self::Interrupted => exit::INTERRUPTED,
            Self::Observe(ObserveError::Tracker(_) | ObserveError::CgroupNeedsEbpf(_)) | Self::Gpu(_) => {
                exit::PRIVILEGE_MISSING
            }
            Self::Output(
                OutputError::Unwritable { .. }
                | OutputError::Refused { .. }
                | OutputError::CommandOutput { .. },
            ) => exit::USAGE,
            _ => exit::INTERNAL,
        }
    }
}
