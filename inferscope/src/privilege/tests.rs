use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::process::Command;

use super::*;

/// What `work` gives on a thread of its own, which has shed what `role` has no use for.
fn as_role<T: Send>(role: ThreadRole, work: impl FnOnce(InForce) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| work(give_up(role)));
        thread.join().expect("it does not panic")
    })
}

fn has(capabilities: CapabilitySet) -> Standing {
    Standing { secure: false, elevated: false, permitted: capabilities, asks_each_time: true }
}

fn kept(role: ThreadRole, standing: Standing) -> Vec<String> {
    sets::names(role.keeps(standing))
}

#[test]
fn the_load_keeps_nothing_and_the_observer_what_it_goes_on_needing() {
    let root = has(CapabilitySet::all());
    assert_eq!(kept(ThreadRole::Load, root), [""; 0]);
    assert_eq!(kept(ThreadRole::Collector, root), [""; 0]);
    assert_eq!(kept(ThreadRole::Observer, root), ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_BPF"]);
    let newer = Standing { asks_each_time: false, ..root };
    assert_eq!(kept(ThreadRole::Observer, newer), ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"]);
    assert_eq!(kept(ThreadRole::Janitor, root), ["CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SYS_NICE"]);
    // In a container.
    let without = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::DAC_OVERRIDE;
    assert_eq!(kept(ThreadRole::Observer, has(without)), ["CAP_DAC_OVERRIDE", "CAP_PERFMON", "CAP_BPF"]);
    assert_eq!(kept(ThreadRole::Observer, has(CapabilitySet::SYS_ADMIN)), ["CAP_SYS_ADMIN"]);
    assert_eq!(kept(ThreadRole::Observer, has(CapabilitySet::empty())), [""; 0]);
}

#[test]
fn what_only_the_file_had_is_the_observers_alone() {
    let elevated = Standing { secure: true, elevated: true, ..has(OBSERVING) };
    for role in
        [ThreadRole::Main, ThreadRole::Load, ThreadRole::Gpu, ThreadRole::Janitor, ThreadRole::Collector]
    {
        assert_eq!(kept(role, elevated), [""; 0], "{role:?}");
    }
    assert_eq!(kept(ThreadRole::Observer, elevated), ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_BPF"]);
}

#[test]
fn the_loads_thread_reads_files_and_resolves_names_and_starts_threads() {
    as_role(ThreadRole::Load, |left| {
        assert_eq!((left.no_new_privs, left.seccomp), (Some(true), true), "{left:?}");
        assert_eq!((left.effective, left.permitted), (Some(vec![]), Some(vec![])));
        assert!(File::open("/proc/self/stat").is_ok());
        assert!(("localhost", 1).to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some()));
        assert_eq!(std::thread::spawn(|| 7).join().ok(), Some(7));
    });
}

#[test]
fn the_loads_thread_starts_no_program_and_writes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = dir.path().join("file");
    as_role(ThreadRole::Load, |_| {
        let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
        refused(OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap_err());
        refused(std::fs::create_dir(&path).unwrap_err());
        refused(Command::new("/bin/true").status().unwrap_err());
        refused(std::fs::rename(&path, &path).unwrap_err());
        // SAFETY: no address is handed over.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }, -1);
        refused(std::io::Error::last_os_error());
        // SAFETY: as above; that many bytes of no attributes.
        assert_eq!(unsafe { libc::syscall(libc::SYS_bpf, 0, 0, 0) }, -1);
        refused(std::io::Error::last_os_error());
    });
    assert!(!path.exists());
}

#[test]
fn a_thread_of_roots_that_loads_opens_no_file_of_roots() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let of_root = rustix::process::geteuid().is_root();
    let opened = as_role(ThreadRole::Load, |left| {
        assert_eq!(left.files_as_uid, of_root.then_some(NOBODY));
        File::open(file.path()).map(drop).map_err(|e| e.kind())
    });
    if of_root {
        assert_eq!(opened, Err(ErrorKind::PermissionDenied));
    }
    assert!(File::open(file.path()).is_ok(), "another thread is as before");
}

#[test]
fn a_thread_of_roots_that_could_not_look_names_up_opens_files_as_before() {
    let file = tempfile::NamedTempFile::new().unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tried = || {
        let answer = sets::open_files_as(NOBODY, &[Path::new("/etc/hosts"), file.path()]);
        sets::keep(CapabilitySet::empty());
        (answer, File::open(file.path()).is_ok())
    };
    let (answer, opens) = std::thread::scope(|scope| scope.spawn(tried).join().unwrap());
    assert!(answer.is_err_and(|why| why.contains("is closed to uid 65534")));
    assert!(opens, "root's own files are open to it as before");
    let missing = || sets::open_files_as(NOBODY, &[Path::new("/nowhere/hosts")]);
    let missing = std::thread::scope(|scope| scope.spawn(missing).join().unwrap());
    assert_eq!(missing, Ok(Some(NOBODY)), "what is not there is closed to nobody");
}

#[test]
fn the_observers_thread_reads_and_asks_and_changes_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    as_role(ThreadRole::Observer, |left| {
        assert_eq!((left.no_new_privs, left.seccomp), (Some(true), true), "{left:?}");
        let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        assert!(File::open("/proc/1/stat").is_ok() && std::fs::read_dir("/proc").is_ok());
        let own = rustix::process::getpid();
        assert_eq!(rustix::process::test_kill_process(own), Ok(()));
        assert_eq!(
            rustix::process::kill_process(own, rustix::process::Signal::URG),
            Err(rustix::io::Errno::PERM)
        );
        refused(OpenOptions::new().write(true).open(file.path()).unwrap_err());
        refused(OpenOptions::new().read(true).write(true).open(file.path()).unwrap_err());
        refused(std::fs::remove_file(file.path()).unwrap_err());
        refused(Command::new("/bin/true").status().unwrap_err());
        refused(std::net::TcpStream::connect("127.0.0.1:9").unwrap_err());
        assert_eq!(std::thread::spawn(|| 7).join().ok(), Some(7));
    });
    assert!(file.path().exists());
}

#[test]
fn the_collectors_thread_computes_and_opens_nothing() {
    let (wake, woken) = std::sync::mpsc::channel();
    let (asks, asked) = std::sync::mpsc::channel::<()>();
    as_role(ThreadRole::Collector, move |left| {
        assert_eq!((left.no_new_privs, left.seccomp), (Some(true), true), "{left:?}");
        assert_eq!((left.effective, left.permitted), (Some(vec![]), Some(vec![])));
        let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
        refused(File::open("/proc/self/stat").unwrap_err());
        refused(std::fs::create_dir("/nowhere/at/all").unwrap_err());
        refused(Command::new("/bin/true").status().unwrap_err());
        refused(std::net::TcpStream::connect("127.0.0.1:9").unwrap_err());
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "it starts no thread");
        // What it is there for: memory of any size, hashing, the clock, waiting and waking.
        let many: std::collections::HashMap<u64, Vec<u8>> = (0..200).map(|n| (n, vec![1; 1 << 16])).collect();
        assert_eq!(many.values().map(Vec::len).sum::<usize>(), 200 << 16);
        let timeout = std::time::Duration::from_millis(5);
        assert!(
            asked.recv_timeout(timeout).is_err() && std::time::Instant::now().elapsed() < timeout * 1_000
        );
        wake.send(()).unwrap();
        // A panic is printed and caught, and ends nothing else.
        let panicked = std::panic::catch_unwind(|| panic!("as a test wants it"));
        assert!(panicked.is_err());
    });
    drop(asks);
    assert_eq!(woken.try_recv(), Ok(()));
}

#[test]
fn what_is_raised_is_lowered_again() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let before = sets::own();
            if !before.permitted.contains(CapabilitySet::SYS_PTRACE) {
                return;
            }
            let lowered = CapabilitySets { effective: CapabilitySet::empty(), ..before };
            set_capabilities(None, lowered).unwrap();
            let raised = raise();
            assert_eq!(sets::own().effective, before.permitted & OBSERVING);
            drop(raised);
            assert_eq!(sets::own(), lowered);
        });
    });
}

#[test]
fn capabilities_have_their_names() {
    let some = CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN | CapabilitySet::CHECKPOINT_RESTORE;
    assert_eq!(sets::names(some), ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]);
    assert_eq!(sets::names(CapabilitySet::from_bits_retain(1 << 63)), ["CAP_63"]);
}
