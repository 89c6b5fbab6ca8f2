//! Nothing that was measured is lost to where it was to go: a dead stdout or stderr, a full disk, a name that takes no
//! file; and an older report is there until a whole new one is.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inferscope_tests::binary::{self, Ended};
use inferscope_tests::process::Group;
use inferscope_tests::script;
use inferscope_tests::timed_server::{Answer, TimedServer};
use inferscope_tests::wait::wait_until;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde_json::Value;

const INTERNAL: i32 = 1;
const USAGE: i32 = 2;
const NOTHING_MEASURED: i32 = 3;
const OLD: &str = "an older report";
const NOBODY: &str = "65534";

/// A short observation of this process.
const RUN: &str = "observe --tracker proc --gpu off --duration 100ms --sample-interval 20ms --pid";

/// Runs `inferscope ARGS` from a shell that has redirected it so; `dir` is where temporary files go.
fn redirected(redirections: &str, dir: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(r#"exec "$0" "$@" {redirections}"#));
    command.arg(binary::inferscope_bin()).args(args).env("TMPDIR", dir);
    binary::start_as(command).wait()
}

fn observation(more: &[&str]) -> Vec<String> {
    let own = std::process::id().to_string();
    RUN.split(' ').chain([own.as_str()]).chain(more.iter().copied()).map(str::to_owned).collect()
}

fn observe_to(redirections: &str, dir: &Path, more: &[&str]) -> Ended {
    let args = observation(more);
    redirected(redirections, dir, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A complete report.
fn whole(text: &str) -> Value {
    let report: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(report["schema_version"], 1);
    assert!(report["resources"]["samples"].as_array().is_some_and(|samples| !samples.is_empty()));
    report
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Removes and reads the one report that found refuge in `dir`.
fn refuge(dir: &Path) -> String {
    let names = names(dir);
    let [name] = &names[..] else { panic!("not one file: {names:?}") };
    assert!(name.starts_with("inferscope-report-") && name.ends_with(".json"), "{name}");
    let path = dir.join(name);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let text = read(&path);
    std::fs::remove_file(&path).unwrap();
    text
}

#[test]
fn a_dead_stream_costs_no_report_and_no_exit_code() {
    let (dir, tmp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("report.json");
    let file = ["-o", path.to_str().unwrap()];
    for streams in
        ["2>/dev/full", "2>&-", ">/dev/full", ">&-", ">/dev/full 2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"]
    {
        let ended = observe_to(streams, tmp.path(), &file);
        assert_eq!(ended.code, Some(0), "{streams}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{streams}: {ended:#?}");
        whole(&read(&path));
        assert_eq!(names(dir.path()), ["report.json"], "{streams}");
        std::fs::remove_file(&path).unwrap();
    }
    // With standard output alone, the code says so, and the report has a place all the same.
    for streams in [">/dev/full", ">/dev/full 2>/dev/full", ">/dev/full 2>&-"] {
        let ended = observe_to(streams, tmp.path(), &[]);
        assert_eq!(ended.code, Some(INTERNAL), "{streams}: {ended:#?}");
        whole(&refuge(tmp.path()));
    }
    let ended = observe_to(">/dev/full", tmp.path(), &[]);
    assert!(ended.stderr.starts_with("error: can't write the report to stdout: No space left"), "{ended:#?}");
    assert!(ended.stderr.contains(tmp.path().to_str().unwrap()), "{ended:#?}");
    let ended = observe_to("2>/dev/full", tmp.path(), &["--json"]);
    whole(&ended.stdout);
    assert_eq!(ended.code, Some(0));
}

#[test]
fn a_closed_pipe_costs_no_report_and_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let closed = || {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        drop::<OwnedFd>(read);
        Stdio::from(write)
    };
    for dead in ["stdout", "stderr", "both"] {
        let mut command = Command::new(binary::inferscope_bin());
        command
            .args(observation(&["-o", path.to_str().unwrap()]))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if dead != "stderr" {
            command.stdout(closed());
        }
        if dead != "stdout" {
            command.stderr(closed());
        }
        binary::clean(&mut command);
        let status = Group::start(&mut command).wait(std::time::Duration::from_secs(60));
        assert_eq!(status.code(), Some(0), "{dead}: {status:?}");
        whole(&read(&path));
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn no_command_turns_a_dead_stream_into_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 7] = [
        &["--help"],
        &["-h"],
        &["--version"],
        &["schema"],
        &["man"],
        &["completions", "bash"],
        &["exec", "--help"],
    ];
    for args in commands {
        let ended = redirected(">/dev/full", dir.path(), args);
        assert_eq!(ended.code, Some(INTERNAL), "{args:?}: {ended:#?}");
        assert!(
            ended.stderr.starts_with("error: can't write to stdout: No space left"),
            "{args:?}: {ended:#?}"
        );
        for streams in [">&-", "2>/dev/full", "2>&-"] {
            assert_eq!(redirected(streams, dir.path(), args).code, Some(0), "{args:?} {streams}");
        }
        assert_eq!(redirected(">/dev/full 2>/dev/full", dir.path(), args).code, Some(INTERNAL), "{args:?}");
        assert_eq!(redirected("| head -c 1 >/dev/null", dir.path(), args).code, Some(0), "{args:?}");
    }
    assert_eq!(redirected("2>/dev/full", dir.path(), &["--concurency", "4"]).code, Some(USAGE));
    let nobody = ["--endpoint", "http://127.0.0.1:1"];
    assert_eq!(redirected("2>/dev/full", dir.path(), &nobody).code, Some(NOTHING_MEASURED));
    assert_eq!(redirected(">&- 2>&-", dir.path(), &nobody).code, Some(NOTHING_MEASURED));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn the_report_is_written_before_a_word_is_told() {
    // A target that looks like a wrapper is warned of; the pipe of standard error is full and nobody reads it.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let mut wrapper = Command::new("sleep");
    let wrapper = Group::start(wrapper.arg("60"));
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut command = Command::new(binary::inferscope_bin());
    let pid = wrapper.pid().to_string();
    command.args(RUN.split(' ')).args([&pid, "--no-descendants", "-o", path.to_str().unwrap()]);
    let stdout = tempfile::NamedTempFile::new().unwrap();
    command.stdout(stdout.reopen().unwrap()).stderr(writer);
    binary::clean(&mut command);
    let mut running = Group::start(&mut command);
    drop(command);
    let is_written = || path.exists() && !read(stdout.path()).is_empty();
    wait_until("the report is written before a word that nobody hears", is_written);
    whole(&read(&path));
    // And the word is given up after a second, as signals could not end the wait for it.
    assert_eq!(running.wait(std::time::Duration::from_secs(30)).code(), Some(0));
    drop(reader);
}

#[test]
fn a_warning_comes_after_the_files_and_a_refused_run_keeps_them() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 1, 1)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let endpoint = server.endpoint();
    let args =
        ["--endpoint", &endpoint, "--model", "short-name", "--gpu", "off", "-o", path.to_str().unwrap()];
    let ended = redirected("2>/dev/full", dir.path(), &args);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(whole(&read(&path))["load"]["requests_ok"], 1);
    assert!(ended.stdout.contains("tokens/s"), "{ended:#?}");
}

#[test]
fn the_text_goes_where_a_name_ends_in_txt_and_dash_is_the_json_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let [json, text] = ["a.json", "b.txt"].map(|name| dir.path().join(name));
    let files = ["-o", json.to_str().unwrap(), "-o", text.to_str().unwrap(), "-o", "-", "--color", "always"];
    let ended = observe_to("", dir.path(), &files);
    let printed = whole(&ended.stdout);
    assert_eq!(whole(&read(&json)), printed);
    let text = read(&text);
    assert!(text.contains("inferscope itself") && !text.contains('\u{1b}'), "{text}");
    let through_name = dir.path().join("stdout");
    let ended = observe_to(&format!("> {}", through_name.display()), dir.path(), &["-o", "/dev/stdout"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    whole(&read(&through_name));
    let other = dir.path().join("other");
    let ended = observe_to(&format!("3> {}", other.display()), dir.path(), &["-o", "/dev/fd/3"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    whole(&read(&other));
}

#[test]
fn a_report_is_its_owners_alone_unless_a_mode_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    std::fs::write(&path, OLD).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().mode() & 0o7777;
    for (flags, expected) in
        [(&[][..], 0o600), (&["--report-mode", "0644"], 0o644), (&["--report-mode", "640"], 0o640)]
    {
        let ended = observe_to("", dir.path(), &[&["-o", path.to_str().unwrap()], flags].concat());
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert_eq!(mode(), expected);
    }
    for wrong in ["0800", "u=rw", "4755"] {
        let ended = observe_to("", dir.path(), &["--report-mode", wrong]);
        assert_eq!(ended.code, Some(USAGE), "{ended:#?}");
        assert!(ended.stderr.contains("octal"), "{ended:#?}");
    }
}

#[test]
fn what_takes_no_report_is_refused_before_anything_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .unwrap();
    symlink("missing/report", at("dangling")).unwrap();
    symlink("ring", at("ring")).unwrap();
    let before = names(dir.path());
    for (path, said) in [
        (at("fifo"), "start its reader first"),
        (at(""), "it is a directory"),
        (at("missing/report"), "a directory that exists"),
        (at("new/"), "give -o a file"),
        (at("dangling"), "a directory that exists"),
        (at("ring"), "symbolic links"),
        (at("fifo/report"), "a directory that exists"),
        (at(&"x".repeat(300)), "name too long"),
        ("/dev/fd/77".to_owned(), "it is not open for writing"),
        ("/dev/fd/0".to_owned(), "it is not open for writing"),
        ("/proc/self/mem-of-nobody".to_owned(), "a directory that exists"),
    ] {
        let ended = observe_to("</dev/null", dir.path(), &["-o", &path]);
        assert_eq!(ended.code, Some(USAGE), "{path}: {ended:#?}");
        assert!(ended.stderr.to_lowercase().contains(said), "{path}: {ended:#?}");
        assert_eq!(ended.stderr.lines().count(), 2, "{path}: {ended:#?}");
    }
    assert_eq!(names(dir.path()), before);
}

#[test]
fn links_and_fifos_are_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("old"), OLD).unwrap();
    symlink("old", at("link")).unwrap();
    symlink("new", at("dangling")).unwrap();
    for link in ["link", "dangling"] {
        let ended = observe_to("", dir.path(), &["-o", at(link).to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(std::fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
    }
    whole(&read(&at("old")));
    whole(&read(&at("new")));
    assert_eq!(names(dir.path()), ["dangling", "link", "new", "old"]);
    let (fifo, copy) = (at("fifo"), at("copy"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let script = r#"cat "$1" > "$2""#;
    let mut reader = Group::start(Command::new("sh").args(["-c", script, "sh"]).arg(&fifo).arg(&copy));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // The reader opens it at its own time.
    let ended = loop {
        let ended = observe_to("", dir.path(), &["-o", fifo.to_str().unwrap()]);
        if ended.code == Some(0) {
            break ended;
        }
        assert!(std::time::Instant::now() < deadline, "{ended:#?}");
    };
    assert!(ended.stderr.is_empty(), "{ended:#?}");
    assert!(reader.wait(std::time::Duration::from_secs(30)).success());
    whole(&read(&copy));
}

/// As docker run -v FILE:FILE has it.
#[test]
fn a_file_that_is_mounted_is_written_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("outside"), OLD.repeat(100_000)).unwrap();
    std::fs::set_permissions(at("outside"), PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(at("report.json"), "").unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only this thread, and what it starts, gets another mount namespace.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount(at("outside"), at("report.json"), "", MountFlags::BIND, None).unwrap();
            let ended = observe_to("", dir.path(), &["-o", at("report.json").to_str().unwrap()]);
            assert_eq!(ended.code, Some(0), "{ended:#?}");
            assert!(ended.stderr.contains("written in place"), "{ended:#?}");
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    whole(&read(&at("outside")));
    assert_eq!(std::fs::metadata(at("outside")).unwrap().mode() & 0o777, 0o600, "the run's own rule");
    assert_eq!(names(dir.path()), ["outside", "report.json"]);
}

#[test]
fn a_file_that_is_write_protected_is_refused_before_anything_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    std::fs::write(&path, OLD).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    // By its mode for whom that holds, who could replace it all the same.
    std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reduced"));
    command.args(["--uid", NOBODY, "--caps", "", "--"]).arg(binary::inferscope_bin());
    command.args(observation(&["-o", path.to_str().unwrap()]));
    let refused = |ended: Ended| {
        assert_eq!(ended.code, Some(USAGE), "{ended:#?}");
        assert!(ended.stderr.contains("it is write-protected"), "{ended:#?}");
        assert_eq!((read(&path), names(dir.path())), (OLD.to_owned(), vec!["report.json".to_owned()]));
    };
    refused(binary::start_as(command).wait());
    // By chattr(1) for everyone, where the file system has it.
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&path).stderr(Stdio::null()).status();
    if chattr("+i").is_ok_and(|status| status.success()) {
        let ended = observe_to("", dir.path(), &["-o", path.to_str().unwrap()]);
        assert!(chattr("-i").unwrap().success());
        refused(ended);
    } else {
        println!("skipped: needs chattr +i");
    }
}

/// Where a small file system is full but for `free` bytes.
fn with_a_full_disk(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only this thread, and what it starts, gets another mount namespace.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=64k,mode=0755")).unwrap();
            std::fs::write(dir.path().join("report.json"), OLD).unwrap();
            // To its last page.
            let mut filler = std::fs::File::create(dir.path().join("filler")).unwrap();
            while std::io::Write::write(&mut filler, &[0; 4096]).is_ok_and(|written| written > 0) {}
            test(dir.path());
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_full_disk_keeps_the_older_report_and_the_new_one_goes_to_stdout() {
    with_a_full_disk(|full| {
        let tmp = tempfile::tempdir().unwrap();
        let path = full.join("report.json");
        let file = ["-o", path.to_str().unwrap()];
        let ended = observe_to("", tmp.path(), &file);
        assert_eq!(ended.code, Some(INTERNAL), "{ended:#?}");
        assert!(
            ended.stderr.contains("No space left") && ended.stderr.contains("printed on stdout"),
            "{ended:#?}"
        );
        whole(&ended.stdout);
        // Where that is dead too, to the temporary directory.
        for streams in [">/dev/full", ">/dev/full 2>/dev/full"] {
            let ended = observe_to(streams, tmp.path(), &file);
            assert_eq!(ended.code, Some(INTERNAL), "{ended:#?}");
            whole(&refuge(tmp.path()));
        }
        // And where that is full as well, to stderr.
        let ended = observe_to(">/dev/full", full, &file);
        let (report, error) = ended.stderr.split_once("\nerror: ").unwrap_or_else(|| panic!("{ended:#?}"));
        whole(report);
        assert!(error.contains("printed on stderr"), "{error}");
        assert_eq!(read(&path), OLD);
        assert_eq!(names(full), ["filler", "report.json"]);
        // A second file that takes it is enough.
        let other = tmp.path().join("other.json");
        let both = [&file[..], &["-o", other.to_str().unwrap()]].concat();
        let ended = observe_to("", tmp.path(), &both);
        assert_eq!(ended.code, Some(INTERNAL), "{ended:#?}");
        assert!(ended.stderr.contains("the other files of -o have it"), "{ended:#?}");
        whole(&read(&other));
    });
}

#[test]
fn a_file_in_a_directory_that_takes_no_other_is_written_in_place() {
    let observe_as_nobody = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reduced"));
        command.args(["--uid", NOBODY, "--caps", "", "--"]).arg(binary::inferscope_bin());
        command.args(observation(&["-o", path.to_str().unwrap()]));
        binary::start_as(command).wait()
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path: PathBuf = dir.path().join("report.json");
    let make = |mode: u32| {
        std::fs::write(&path, OLD.repeat(100_000)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    make(0o666);
    let ended = observe_as_nobody(&path);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("written in place"), "{ended:#?}");
    whole(&read(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666, "it is its owner's business");
    // Somebody else's, in a directory in which only the owner may replace it.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    make(0o666);
    let ended = observe_as_nobody(&path);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("written in place"), "{ended:#?}");
    whole(&read(&path));
    // Where it is not writable either, that is said before anything is measured.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    make(0o644);
    let ended = observe_as_nobody(&path);
    assert_eq!(ended.code, Some(USAGE), "{ended:#?}");
    assert!(read(&path).starts_with(OLD));
    // Nobody's link in such a directory is followed, as the kernel would have it.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
    make(0o666);
    let ended = observe_as_nobody(&link);
    assert_eq!(ended.code, Some(USAGE), "{ended:#?}");
    assert!(read(&path).starts_with(OLD));
    with_a_full_disk(|full| {
        // A page more than it has.
        let path = full.join("report.json");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let ended = observe_as_nobody(&path);
        assert_eq!(ended.code, Some(INTERNAL), "{ended:#?}");
        whole(&ended.stdout);
        assert_eq!(read(&path), OLD);
    });
}
