//! The search order of `toolchain.rs`, on made-up machines.

use std::collections::HashMap;
use std::fs;

use super::*;

/// A machine made of a temporary folder: variables, and sysroots by the command that is asked for one.
struct Machine {
    dir: tempfile::TempDir,
    vars: HashMap<&'static str, OsString>,
    sysroots: HashMap<String, PathBuf>,
}

impl Machine {
    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Self { dir, vars: HashMap::new(), sysroots: HashMap::new() };
        machine.vars.insert("HOME", machine.dir.path().join("home").into());
        machine.sysroots.insert("rustc".to_owned(), machine.path("stable"));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }

    fn with_linker(mut self) -> Self {
        self.file("bin/bpf-linker");
        self.vars.insert("PATH", self.path("bin").into());
        self
    }

    fn with_nightly(mut self, rust_src: bool) -> Self {
        self.sysroots.insert("rustup run nightly rustc".to_owned(), self.path("nightly"));
        if rust_src {
            self.file("nightly/lib/rustlib/src/rust/library/core/Cargo.toml");
        }
        self
    }

    fn with_prepared(self) -> Self {
        let prepared = Prepared::of(&|name| self.vars.get(name).cloned()).unwrap();
        for path in [prepared.stamp(), prepared.rustc(), prepared.linker()] {
            self.file(path.to_str().unwrap());
        }
        self
    }

    fn locate(&self) -> Result<Toolchain, NotFound> {
        locate_in(&|name| self.vars.get(name).cloned(), &|command| {
            self.sysroots.get(&command.join(" ")).cloned()
        })
    }
}

#[test]
fn bare_machine_is_told_to_run_setup() {
    let error = Machine::bare().locate().unwrap_err();
    assert!(!error.asked_for);
    assert!(error.to_string().contains("`cargo xtask setup`"), "{error}");
    assert!(error.tried.iter().any(|line| line.contains("rust-src")), "{error}");
}

#[test]
fn named_object_wins_over_everything() {
    let mut machine = Machine::bare().with_linker().with_nightly(true).with_prepared();
    let object = machine.file("ready.o");
    machine.vars.insert(OBJECT_VAR, object.clone().into());
    assert_eq!(machine.locate().unwrap(), Toolchain::Object(object));
}

#[test]
fn named_but_missing_is_refused_though_others_are_there() {
    for var in [OBJECT_VAR, RUSTC_VAR, LINKER_VAR] {
        let mut machine = Machine::bare().with_linker().with_prepared();
        machine.vars.insert(var, "/nowhere/bpf-linker".into());
        let error = machine.locate().unwrap_err();
        assert!(error.asked_for, "{var}");
        assert!(error.to_string().contains(var), "{error}");
    }
}

#[test]
fn rustc_with_bpf_core_comes_before_nightly() {
    let machine = Machine::bare().with_linker().with_nightly(true).with_prepared();
    fs::create_dir_all(machine.path("stable/lib/rustlib/bpfel-unknown-none/lib")).unwrap();
    let rustc = machine.path("stable/bin/rustc");
    assert_eq!(
        machine.locate().unwrap(),
        Toolchain::Prebuilt { rustc, linker: machine.path("bin/bpf-linker") }
    );
}

#[test]
fn nightly_counts_with_rust_src_alone() {
    let machine = Machine::bare().with_linker().with_nightly(true).with_prepared();
    assert!(matches!(machine.locate().unwrap(), Toolchain::Nightly { .. }));
    let machine = Machine::bare().with_linker().with_nightly(false).with_prepared();
    assert!(matches!(machine.locate().unwrap(), Toolchain::Prepared(_)));
}

#[test]
fn nightly_without_a_linker_falls_back_and_says_what_is_missing() {
    let machine = Machine::bare().with_nightly(true);
    let error = machine.locate().unwrap_err();
    assert!(error.tried.iter().any(|line| line.starts_with("bpf-linker: not on PATH")), "{error}");
    assert!(matches!(machine.with_prepared().locate().unwrap(), Toolchain::Prepared(_)));
}

#[test]
fn linker_in_cargo_home_is_found_without_path() {
    let machine = Machine::bare().with_nightly(true);
    let linker = machine.file("home/.cargo/bin/bpf-linker");
    assert!(matches!(machine.locate().unwrap(), Toolchain::Nightly { linker: found, .. } if found == linker));
}

#[test]
fn interrupted_set_up_is_not_taken_for_a_toolchain() {
    let machine = Machine::bare().with_prepared();
    let Toolchain::Prepared(prepared) = machine.locate().unwrap() else { panic!("not the prepared one") };
    fs::remove_file(prepared.stamp()).unwrap();
    assert!(machine.locate().is_err());
}

#[test]
fn cache_folder_follows_xdg_and_ignores_a_relative_one() {
    let mut machine = Machine::bare();
    let dir = |machine: &Machine| Prepared::of(&|name| machine.vars.get(name).cloned()).unwrap().dir;
    assert!(dir(&machine).starts_with(machine.path("home/.cache/inferscope")));
    machine.vars.insert("XDG_CACHE_HOME", "relative".into());
    assert!(dir(&machine).starts_with(machine.path("home")));
    machine.vars.insert("XDG_CACHE_HOME", "/var/tmp/xdg".into());
    assert!(dir(&machine).starts_with("/var/tmp/xdg/inferscope"));
}
