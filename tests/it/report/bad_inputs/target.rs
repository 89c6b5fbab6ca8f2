//! Targets that are not there, end, can't be read, or have names to write on a terminal with.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::case::Case;

const AREA: &str = "target";
const OK: i32 = 0;
const USAGE: i32 = 2;
const NOTHING: i32 = 3;
const PRIVILEGE: i32 = 5;

fn observe(name: &str, args: &[&str], code: i32) -> Case {
    let all = ["observe", "--gpu", "off", "--duration", "200ms"].iter().chain(args);
    Case::new(AREA, name, all.map(OsString::from), code)
}

pub(crate) fn cases(dir: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for tracker in ["ebpf", "proc"] {
        let of = |name: &str| format!("{name}, {tracker}");
        for (name, args, code) in [
            ("no such pid", &["--pid", "4194305"][..], NOTHING),
            ("largest pid", &["--pid", "4294967295"], NOTHING),
            ("a kernel thread", &["--pid", "2"], OK),
            ("pid 1", &["--pid", "1"], OK),
            ("cgroup of no pid", &["--cgroup-of", "4194305"], NOTHING),
            ("a listener that is none", &["--endpoint", "http://127.0.0.1:1"], NOTHING),
            ("a listener elsewhere", &["--endpoint", "http://192.0.2.1:80"], NOTHING),
        ] {
            let args: Vec<&str> = args.iter().chain(&["--tracker", tracker]).copied().collect();
            let mut case = observe(&of(name), &args, code).or(NOTHING);
            // Where the kernel hides a process from tracing, the tracker that was asked for can't be had.
            if name.starts_with("cgroup") || name == "pid 1" {
                case = case.or(PRIVILEGE).or(USAGE);
            }
            cases.push(case);
        }
        for (name, script) in [
            ("ends at once", "true & exec \"$RUN\" observe --gpu off --pid $! --duration 1s"),
            (
                "ends while it is observed",
                "sleep 0.3 & exec \"$RUN\" observe --gpu off --pid $! --duration 5s",
            ),
            (
                "killed",
                "sleep 5 & p=$!; (sleep 0.5; kill -9 $p) & exec \"$RUN\" observe --gpu off --pid $p --duration 3s",
            ),
            (
                "stopped",
                "sleep 5 & p=$!; kill -STOP $p; \"$RUN\" observe --gpu off --pid $p --duration 300ms; c=$?; kill -9 $p; exit $c",
            ),
            (
                "a name with ESC",
                "d=$(mktemp -d); cp $(command -v sleep) $d/$'\\e]0;x\\a'; $d/$'\\e]0;x\\a' 3 & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "a name with bidi",
                "d=$(mktemp -d); cp $(command -v sleep) $d/$'\\u202ex'; $d/$'\\u202ex' 3 & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "a name that is no UTF-8",
                "d=$(mktemp -d); cp $(command -v sleep) $d/$'\\xff\\xfe'; $d/$'\\xff\\xfe' 3 & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "a name like stat's fields",
                "d=$(mktemp -d); cp $(command -v sleep) \"$d/a) R 1 1\"; \"$d/a) R 1 1\" 3 & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "a name with a newline",
                "d=$(mktemp -d); cp $(command -v sleep) $d/$'a\\nb'; $d/$'a\\nb' 3 & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "a program that was removed",
                "d=$(mktemp -d); cp $(command -v sleep) $d/gone; $d/gone 3 & sleep 0.1; rm $d/gone; exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "a zombie",
                "bash -c 'sleep 0 & exec sleep 3' & sleep 0.4; z=$(cat /proc/$!/task/$!/children); exec \"$RUN\" observe --gpu off --pid ${z:-4194305} --duration 300ms",
            ),
            (
                "an argument of 100 KB",
                "bash -c 'sleep 3; true' \"$(head -c 100000 /dev/zero | tr '\\0' x)\" & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
            (
                "no arguments",
                "exec -a '' sleep 3 & exec \"$RUN\" observe --gpu off --pid $! --duration 300ms",
            ),
        ] {
            // A shell's job waits until its own end has been seen: the limit of the tests ends it if not.
            let script = format!("{script} --tracker {tracker}").replace("; c=$? --tracker", " --tracker");
            let script = if name == "stopped" {
                format!(
                    "sleep 5 & p=$!; kill -STOP $p; \"$RUN\" observe --gpu off --pid $p --duration 300ms --tracker {tracker}; c=$?; kill -9 $p; exit $c"
                )
            } else {
                script
            };
            cases.push(Case::new(AREA, of(name), [""; 0], OK).or(NOTHING).through_shell(script));
        }
    }
    let hostile = OsString::from_vec(b"/sys/fs/cgroup/\xff\x1b[2J".to_vec());
    cases.push(
        Case::new(
            AREA,
            "a cgroup that is no UTF-8",
            [OsString::from("observe"), "--cgroup".into(), hostile],
            NOTHING,
        )
        .or(USAGE),
    );
    for cgroup in [
        "/nonexistent",
        "",
        "..",
        "../../..",
        "/etc",
        "/proc/self",
        "/dev/null",
        "/sys/fs/cgroup/../../..",
        "a\u{1b}[31m\u{202e}",
        dir.to_str().unwrap(),
    ] {
        let name =
            format!("--cgroup {}", cgroup.replace(dir.to_str().unwrap(), "a directory").escape_debug());
        cases.push(observe(&name, &["--cgroup", cgroup], NOTHING).or(USAGE));
    }
    for (name, args, code) in [
        ("exits with 7", &["--", "sh", "-c", "exit 7"][..], OK),
        ("kills itself", &["--", "sh", "-c", "kill -9 $$"], OK),
        ("dumps core", &["--", "sh", "-c", "kill -SEGV $$"], OK),
        ("says ESC", &["--", "printf", "\\033]0;x\\007\\n"], OK),
        ("is not there", &["--", "/nonexistent"], USAGE),
        ("is no program", &["--", "/etc/passwd"], USAGE),
        (
            "never answers",
            &["--endpoint", "http://127.0.0.1:1", "--ready-timeout", "500ms", "--", "sleep", "30"],
            NOTHING,
        ),
        (
            "ends before it answers",
            &["--endpoint", "http://127.0.0.1:1", "--ready-timeout", "5s", "--", "true"],
            NOTHING,
        ),
        ("leaves a daemon", &["--", "sh", "-c", "sleep 1 & exit 0"], OK),
        ("closes its outputs", &["--", "sh", "-c", "exec >&- 2>&-; exit 0"], OK),
        (
            "ignores every signal",
            &[
                "--duration",
                "300ms",
                "--grace",
                "200ms",
                "--",
                "sh",
                "-c",
                "trap '' TERM INT; sleep 20; sleep 20",
            ],
            OK,
        ),
    ] {
        let all = ["exec", "--gpu", "off", "--quiet", "--command-output", "null"].iter().chain(args);
        cases.push(Case::new(AREA, format!("a command that {name}"), all.map(OsString::from), code));
    }
    cases
}
