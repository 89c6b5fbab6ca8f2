use super::*;
use std::os::unix::fs::symlink;

const OLD: &str = "an older report";

struct Dir {
    dir: tempfile::TempDir,
    signals: Signals,
}

impl Dir {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), signals: Signals::block().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn old(&self, name: &str) -> PathBuf {
        fs::write(self.path(name), OLD).unwrap();
        self.path(name)
    }

    fn open(&self, path: &Path) -> OpenOutput {
        OpenOutput::open(path, 0o600).unwrap().0
    }

    fn save(&self, path: &Path) {
        self.open(path).save(b"{}", &self.signals).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        self.signals.restore();
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_place_without_a_report_is_left_as_it_was() {
    let dir = Dir::new();
    let old = dir.old("old");
    for name in ["new", "old"] {
        let place = dir.open(&dir.path(name));
        assert_eq!(dir.names().len(), 2, "the temporary file is there: {:?}", dir.names());
        assert_eq!(text(&old), OLD);
        drop(place);
    }
    assert_eq!(dir.names(), ["old"]);
    assert_eq!(text(&old), OLD);
}

#[test]
fn an_older_report_is_there_until_the_new_one_has_its_name() {
    let dir = Dir::new();
    let old = dir.old("report");
    fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
    let mut held = File::open(&old).unwrap();
    let hard = dir.path("hard");
    fs::hard_link(&old, &hard).unwrap();
    dir.save(&old);
    assert_eq!(text(&old), "{}");
    assert_eq!(mode(&old), 0o600, "whatever it was");
    // Who reads the old one reads it to its end, and so does another name of it.
    let mut before = String::new();
    io::Read::read_to_string(&mut held, &mut before).unwrap();
    assert_eq!([before, text(&hard)], [OLD, OLD]);
    assert_eq!(dir.names(), ["hard", "report"]);
}

#[test]
fn the_mode_is_what_was_asked_for_whatever_the_umask_is() {
    let dir = Dir::new();
    for wanted in [0o600, 0o640, 0o666, 0o400] {
        let path = dir.path("report");
        let (place, _) = OpenOutput::open(&path, wanted).unwrap();
        let OpenOutput::Replaced { temporary, .. } = &place else { panic!("{place:?}") };
        assert_eq!(mode(temporary.path()), 0o600, "nobody reads it meanwhile");
        place.save(b"{}", &dir.signals).unwrap();
        assert_eq!(mode(&path), wanted);
    }
}

#[test]
fn a_link_stays_a_link_and_what_it_leads_to_is_replaced() {
    let dir = Dir::new();
    let old = dir.old("old");
    fs::create_dir(dir.path("far")).unwrap();
    symlink("old", dir.path("link")).unwrap();
    symlink(dir.path("link"), dir.path("chain")).unwrap();
    symlink("far/new", dir.path("dangling")).unwrap();
    dir.save(&dir.path("chain"));
    dir.save(&dir.path("dangling"));
    assert_eq!(text(&old), "{}");
    assert_eq!(text(&dir.path("far/new")), "{}");
    for name in ["link", "chain", "dangling"] {
        assert!(fs::symlink_metadata(dir.path(name)).unwrap().is_symlink(), "{name}");
    }
    symlink("nowhere/new", dir.path("lost")).unwrap();
    symlink("ring", dir.path("ring")).unwrap();
    for name in ["lost", "ring"] {
        let error = OpenOutput::open(&dir.path(name), 0o600).unwrap_err();
        assert!(matches!(error, OutputError::Unwritable { .. }), "{name}: {error}");
    }
    assert_eq!(dir.names(), ["chain", "dangling", "far", "link", "lost", "old", "ring"]);
}

#[test]
fn what_can_hold_no_report_is_refused() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let socket = dir.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refused = |path: &Path| match OpenOutput::open(path, 0o600) {
        Err(OutputError::Refused { why, .. }) => Some(why),
        Err(OutputError::Unwritable { .. }) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(dir.dir.path()), Some(Refused::Directory));
    assert_eq!(refused(&fifo), Some(Refused::NoReader));
    assert_eq!(refused(&socket), None);
    assert_eq!(refused(Path::new("/dev/fd/987654")), Some(Refused::NotOpen));
    for name in ["missing/report", "fifo/report", "new/"] {
        assert_eq!(refused(&dir.path(name)), None, "{name}");
    }
    assert_eq!(refused(&dir.path(&"x".repeat(256))), None);
    assert_eq!(refused(Path::new("")), None);
}

#[test]
fn the_longest_name_and_one_that_is_no_text_are_names() {
    let dir = Dir::new();
    let long = dir.path(&"é".repeat(127));
    let odd = dir.dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\n"));
    for path in [&long, &odd] {
        dir.save(path);
        assert_eq!(text(path), "{}");
    }
    assert_eq!(fs::read_dir(dir.dir.path()).unwrap().count(), 2);
}

#[test]
fn a_fifo_with_a_reader_and_a_descriptor_are_written() {
    let dir = Dir::new();
    let fifo = dir.path("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let reader = open(&fifo, flags, Mode::empty()).unwrap();
    dir.save(&fifo);
    let mut got = [0; 8];
    assert_eq!(rustix::io::read(&reader, &mut got), Ok(2));
    // A file that the caller's shell opened goes on where it was.
    let path = dir.path("shared");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before ").unwrap();
    dir.save(Path::new(&format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))));
    assert_eq!(text(&path), "before {}");
    let read_only = File::open(&path).unwrap();
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read_only));
    assert!(matches!(
        OpenOutput::open(Path::new(&name), 0o600),
        Err(OutputError::Refused { why: Refused::NotOpen, .. })
    ));
}

#[test]
fn a_full_device_is_an_error_when_it_is_written_and_not_before() {
    let dir = Dir::new();
    let error = dir.open(Path::new("/dev/full")).save(b"{}", &dir.signals).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    dir.save(Path::new("/dev/null"));
}

#[test]
fn what_is_written_in_place_is_cut_to_its_length() {
    let dir = Dir::new();
    let old = dir.old("old");
    let file = OpenOptions::new().write(true).open(&old).unwrap();
    OpenOutput::Overwritten { file, mode: 0o600 }.save(b"{}", &dir.signals).unwrap();
    assert_eq!(text(&old), "{}");
}

#[test]
fn what_is_written_in_place_has_the_mode_that_was_asked_for_or_it_is_told() {
    let dir = Dir::new();
    let old = dir.old("old");
    let save = || {
        let file = OpenOptions::new().write(true).open(&old).unwrap();
        OpenOutput::Overwritten { file, mode: 0o600 }.save(b"{}", &dir.signals).unwrap()
    };
    fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
    assert_eq!((save(), mode(&old)), (None, 0o600));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&old, Some(4242), None).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o644)).unwrap();
        let told = save().unwrap();
        assert!(told.contains("keeps its mode 0644, as it is another user's"), "{told}");
        assert_eq!(mode(&old), 0o644);
    }
}
