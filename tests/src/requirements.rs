//! What a test needs of the machine, and what happens where it is not there.
//!
//! Owns the two rules: a test that can't run says so on stderr (past libtest's capture), and where the
//! environment says that the need is met (`INFERSCOPE_REQUIRE_KERNEL=1`, `INFERSCOPE_REQUIRE_ENGINE=1`,
//! `INFERSCOPE_REQUIRE_PEERS=1`) it fails instead.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::binary;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Whether the kernel program can be loaded here. `what` names the test's subject.
///
/// # Panics
/// When it can't, although `INFERSCOPE_REQUIRE_KERNEL=1`.
#[must_use]
pub fn kernel(what: &str) -> bool {
    let capabilities = effective_capabilities();
    let has = |capability: u32| capabilities >> capability & 1 == 1;
    let missing = if !(has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON)) {
        Some("CAP_BPF and CAP_PERFMON (run as root)")
    } else if !PathBuf::from("/sys/kernel/btf/vmlinux").exists() {
        Some("a kernel with BTF")
    } else {
        None
    };
    met(what, missing, "INFERSCOPE_REQUIRE_KERNEL")
}

/// Where the real engine is, from `engine.json` of `cargo xtask setup --engine`.
#[derive(Debug)]
pub struct Engine {
    pub python: PathBuf,
    pub server: PathBuf,
    pub model: PathBuf,
}

/// The engine, where it was set up.
///
/// # Panics
/// When it was not, although `INFERSCOPE_REQUIRE_ENGINE=1`.
#[must_use]
pub fn engine(what: &str) -> Option<Engine> {
    let json = std::env::var_os("INFERSCOPE_ENGINE_JSON")
        .map_or_else(|| binary::target_dir().join("engine/engine.json"), PathBuf::from);
    let engine = fs::read(&json).ok().map(|text| {
        let told: serde_json::Value = serde_json::from_slice(&text).expect("engine.json is JSON");
        let path = |name: &str| {
            PathBuf::from(told[name].as_str().unwrap_or_else(|| panic!("{} has no {name}", json.display())))
        };
        Engine { python: path("python"), server: path("server"), model: path("model") }
    });
    let missing = engine.is_none().then_some("the real engine (cargo xtask setup --engine)");
    met(what, missing, "INFERSCOPE_REQUIRE_ENGINE");
    engine
}

/// A program of others, from `peers.json` of `cargo xtask setup --peers`: `python` (with gunicorn, uvicorn,
/// psutil and psrecord), `runc`; for benches also `bpftrace` and `pidstat`.
///
/// # Panics
/// When it was not set up, although `INFERSCOPE_REQUIRE_PEERS=1`.
#[must_use]
pub fn peer(name: &str, what: &str) -> Option<PathBuf> {
    let path = find_peer(name);
    let missing = format!("{name} (cargo xtask setup --peers)");
    met(what, path.is_none().then_some(missing), "INFERSCOPE_REQUIRE_PEERS");
    path
}

/// The same without a word where it is missing.
///
/// # Panics
/// When `peers.json` can't be understood.
#[must_use]
pub fn find_peer(name: &str) -> Option<PathBuf> {
    let json = std::env::var_os("INFERSCOPE_PEERS_JSON")
        .map_or_else(|| binary::target_dir().join("peers/peers.json"), PathBuf::from);
    let text = fs::read(json).ok()?;
    let told: serde_json::Value = serde_json::from_slice(&text).expect("peers.json is JSON");
    told[name].as_str().map(PathBuf::from)
}

pub(crate) fn met(what: &str, missing: Option<impl std::fmt::Display>, required_by: &str) -> bool {
    let Some(missing) = missing else { return true };
    let required = std::env::var_os(required_by).is_some_and(|value| value == "1");
    assert!(!required, "{what} needs {missing}, and {required_by}=1");
    say(&format!("skipped: needs {missing}: {what}"));
    note_skip(&missing.to_string());
    false
}

/// A line for the totals of `cargo xtask test`: the test's name, a tab, what it needs.
fn note_skip(missing: &str) {
    let Some(file) = std::env::var_os("INFERSCOPE_TEST_SKIPS") else { return };
    let test = std::env::var("NEXTEST_TEST_NAME").unwrap_or_else(|_| "a test".to_owned());
    let opened = fs::OpenOptions::new().append(true).create(true).open(file);
    // At once, as other tests add theirs.
    let written = opened.and_then(|mut file| file.write_all(format!("{test}\t{missing}\n").as_bytes()));
    written.expect("the runner has made the file");
}

/// A line that libtest does not capture.
pub fn say(line: &str) {
    // Where standard error is gone, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).expect("status has a CapEff line")
}
