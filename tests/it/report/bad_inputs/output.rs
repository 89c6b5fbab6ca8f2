//! Places to which no report can go.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::case::Case;

const AREA: &str = "output";
const OK: i32 = 0;
const USAGE: i32 = 2;

pub(crate) fn cases(dir: &Path, endpoint: &str) -> Vec<Case> {
    let run = |name: &str, path: &Path, code: i32| {
        let args = ["--endpoint", endpoint, "--tracker", "proc", "--gpu", "off", "--quiet", "-o"];
        let args = args.iter().map(OsString::from).chain([path.into()]);
        Case::new(AREA, name, args, code)
    };
    let file = |name: &str| {
        let path = dir.join(name);
        std::fs::write(&path, "an older report").unwrap();
        path
    };
    let link = |name: &str, to: &Path| {
        let path = dir.join(name);
        std::os::unix::fs::symlink(to, &path).unwrap();
        path
    };
    let loop_path = dir.join("loop");
    std::os::unix::fs::symlink(&loop_path, &loop_path).unwrap();
    let below_a_file = file("plain").join("below");
    let long = dir.join("x".repeat(300));
    let strange = dir.join(OsString::from_vec(b"report-\xff\x1b[2J.json".to_vec()));
    let mut cases = vec![
        run("a new file", &dir.join("new.json"), OK),
        run("an older report", &file("old.json"), OK),
        run("a directory", dir, USAGE),
        run("a missing directory", &dir.join("missing/report.json"), USAGE),
        run("below a file", &below_a_file, USAGE),
        run("nothing", Path::new(""), USAGE),
        run("the root", Path::new("/"), USAGE),
        run("dot", Path::new("."), USAGE),
        run("dot dot", Path::new(".."), USAGE),
        run("ends with a slash", &dir.join("new/"), USAGE),
        run("a name of 300 bytes", &long, USAGE),
        run("a name that is no UTF-8", &strange, OK),
        run("/proc", Path::new("/proc/report.json"), USAGE),
        run("/sys", Path::new("/sys/report.json"), USAGE),
        run("a device that is full", Path::new("/dev/full"), 1),
        run("a device that takes all", Path::new("/dev/null"), OK),
        run("standard error", Path::new("/dev/stderr"), OK),
        run("a descriptor that is none", Path::new("/dev/fd/77"), USAGE),
        run("a link to a file", &link("to-file", &file("linked.json")), OK),
        run("a link to nothing", &link("to-nothing", &dir.join("made-through-a-link.json")), OK).or(USAGE),
        run("a link into a missing directory", &link("to-missing", &dir.join("missing/x.json")), USAGE),
        run("a link to itself", &loop_path, USAGE),
        run("a link to a directory", &link("to-dir", dir), USAGE),
    ];
    for (name, script, codes) in [
        ("a FIFO without a reader", "mkfifo $D/fifo1; exec \"$RUN\" \"$@\" -o $D/fifo1", &[OK, 1, USAGE][..]),
        (
            "a FIFO whose reader leaves",
            "mkfifo $D/fifo2; head -c 1 $D/fifo2 > /dev/null & sleep 0.5; exec \"$RUN\" \"$@\" -o $D/fifo2",
            &[OK, 1],
        ),
        (
            "a FIFO with a reader",
            "mkfifo $D/fifo3; cat $D/fifo3 > /dev/null & sleep 0.5; exec \"$RUN\" \"$@\" -o $D/fifo3",
            &[OK],
        ),
        (
            "files of 0 bytes at most",
            "(ulimit -f 0; exec \"$RUN\" \"$@\" -o $D/f0) 2>&1 > /dev/null | cat >&2; exit ${PIPESTATUS[0]}",
            &[1],
        ),
        (
            "a folder removed meanwhile",
            "mkdir $D/gone; (sleep 0.15; rm -rf $D/gone) & \"$RUN\" \"$@\" --requests 40 -o $D/gone/r.json",
            &[OK, 1, USAGE],
        ),
        (
            "a report read meanwhile",
            "echo {} > $D/read.json; exec 5< $D/read.json; exec \"$RUN\" \"$@\" -o $D/read.json",
            &[OK],
        ),
        ("a socket", "exec \"$RUN\" \"$@\" -o /dev/log", &[OK, USAGE]),
        ("stdout twice", "exec \"$RUN\" \"$@\" --json -o /dev/stdout", &[OK]),
        ("-o -", "exec \"$RUN\" \"$@\" -o -", &[OK, USAGE]),
        ("a full disk for stdout, a file too", "exec \"$RUN\" \"$@\" -o $D/beside.json > /dev/full", &[OK]),
        ("no stderr, a file", "exec \"$RUN\" \"$@\" -o $D/mute.json 2>&-", &[OK]),
    ] {
        let args = ["--endpoint", endpoint, "--tracker", "proc", "--gpu", "off", "--quiet"];
        let case = Case::new(AREA, name, args, codes[0]).through_shell(script).env("D", dir);
        cases.push(codes[1..].iter().fold(case, |case, code| case.or(*code)));
    }
    // What needs no run to write.
    for command in ["--help", "-h", "--version", "schema", "man", "doctor", "observe --help"] {
        for (name, script) in
            [("closed", ">&-"), ("full", "> /dev/full"), ("a pipe that nobody reads", "> >(exit)")]
        {
            let case = Case::new(AREA, format!("{command}, stdout {name}"), [""; 0], OK);
            cases.push(case.or(1).or(5).through_shell(format!("\"$RUN\" {command} {script}")));
        }
    }
    cases
}
