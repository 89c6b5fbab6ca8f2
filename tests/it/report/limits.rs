//! Where the system's limits leave inferscope too little, it says what to raise, with a documented code and no panic.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use inferscope_tests::binary::{self, Ended};

/// What follows `exec` is inferscope's and begins with its file.
fn limited(limit: &str, args: &str) -> Ended {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{limit} && exec \"$0\" {args}")]).arg(binary::inferscope_bin());
    binary::start_as(command).wait()
}

/// The error's line and its remedy.
fn refusal(ended: &Ended, codes: &[i32]) -> (String, String) {
    assert!(ended.code.is_some_and(|code| codes.contains(&code)), "{ended:#?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let at = lines.iter().position(|line| line.starts_with("error: "));
    let at = at.unwrap_or_else(|| panic!("no error: {ended:#?}"));
    (lines[at].to_owned(), lines.get(at + 1).copied().unwrap_or_default().to_owned())
}

const RUNS: [&str; 4] = [
    "observe --pid $$ --duration 100ms --gpu off",
    "exec --gpu off -- true",
    "--endpoint http://127.0.0.1:9 --model m",
    "demo --requests 1",
];

#[test]
fn too_few_files_are_an_error_with_the_limit_to_raise() {
    for run in RUNS {
        for files in [5, 10] {
            let (error, remedy) = refusal(&limited(&format!("ulimit -n {files}"), run), &[1]);
            assert!(error.contains(&format!("only {files} files")), "{run}: {error}");
            assert!(remedy.contains("ulimit -Hn"), "{run}: {remedy}");
        }
    }
}

#[test]
fn too_little_address_space_is_an_error_with_the_limit_to_raise() {
    for run in RUNS {
        let (error, remedy) = refusal(&limited("ulimit -v 110000", run), &[1]);
        assert!(error.contains("only 107 MiB of address space"), "{run}: {error}");
        assert!(remedy.contains("ulimit -v"), "{run}: {remedy}");
    }
}

#[test]
fn an_ordinary_user_who_may_start_no_thread_is_told() {
    // For whoever it is: the test's own directory may be nobody's but root's.
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("inferscope");
    std::fs::copy(binary::inferscope_bin(), &program).expect("there is room");
    for path in [dir.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("it is this user's");
    }
    for run in ["--endpoint http://localhost:9 --model m", "observe --pid $$ --duration 100ms --gpu off"] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=64999", "--regid=64999", "--clear-groups", "bash", "-c"]);
        command.arg(format!("ulimit -u 1 && exec \"$0\" {run}")).arg(&program);
        let ended = binary::start_as(command).wait();
        let (error, remedy) = refusal(&ended, &[1, 3]);
        assert!(error.contains("thread"), "{run}: {error}");
        assert!(!remedy.is_empty(), "{run}: {error}");
    }
}

#[test]
fn a_limit_of_the_size_of_files_costs_no_older_report() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("report.json");
    std::fs::write(&path, "older").expect("there is room");
    let run = format!("observe --pid $$ --duration 100ms --gpu off -o {}", path.display());
    let ended = limited("ulimit -f 1", &run);
    // What it says of it is under the same limit, as the test reads it from files.
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "older");
}
