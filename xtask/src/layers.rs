//! `cargo xtask layers`: checks that dependencies inside of `inferscope/src` point one way.
//!
//! Owns the rules as one table, and applies them to what `scan.rs` read. Never changes a file. Called by `main.rs` and
//! by `ci.rs`. Tests are exempt: they may use whatever they need.

mod scan;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{captured, say};
use crate::workspace::Workspace;

/// A module, with everything below it that has no row of its own.
struct Layer {
    module: &'static str,
    /// Other layers that it may name. Its own is always allowed.
    may_use: &'static [&'static str],
    crates: Crates,
}

/// What a layer may use from outside of the crate.
enum Crates {
    /// These and all of std.
    Only(&'static [&'static str]),
    /// Anything but these, given as path prefixes.
    AllBut(&'static [&'static str]),
}

use Crates::{AllBut, Only};

/// Every layer, for the two that put the others together.
const EVERYTHING: &[&str] = &[
    "units",
    "secrets",
    "clean",
    "console",
    "signals",
    "clock",
    "reason",
    "event",
    "bounded_series",
    "aggregate",
    "hub",
    "figures",
    "verdict",
    "cli",
    "plan",
    "load",
    "observe",
    "launch",
    "report",
    "report::build",
    "report::catalogue",
    "report::model",
    "report::view",
    "session",
    "demo",
    "doctor",
    "privilege",
];

/// What a pure layer has no use for: async runtimes, the kernel, files, sockets, clocks.
const EFFECTS: &[&str] = &[
    "anyhow",
    "tokio",
    "aya",
    "aya_log",
    "reqwest",
    "rustix",
    "libc",
    "procfs",
    "nvml_wrapper",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
];

/// The rules. A module without a row is an error, so that a new one must get its place here.
const LAYERS: &[Layer] = &[
    // The base: what a number and a moment are, and what sources tell about them.
    Layer { module: "units", may_use: &[], crates: Only(&["serde", "schemars"]) },
    Layer { module: "secrets", may_use: &[], crates: Only(&["aho_corasick", "base64"]) },
    Layer { module: "clean", may_use: &[], crates: Only(&["icu_properties"]) },
    Layer {
        module: "console",
        may_use: &["clean", "secrets"],
        crates: Only(&["rustix", "tracing_subscriber"]),
    },
    Layer { module: "signals", may_use: &[], crates: Only(&["libc", "rustix", "tokio"]) },
    // What a thread may do; whoever starts one, or looks at what takes a privilege, asks it.
    Layer {
        module: "privilege",
        may_use: &[],
        crates: Only(&["serde", "rustix", "libc", "seccompiler", "thiserror"]),
    },
    Layer { module: "clock", may_use: &["units"], crates: Only(&["serde", "schemars", "rustix"]) },
    Layer {
        module: "event",
        may_use: &["units", "clock"],
        crates: Only(&["serde", "schemars", "inferscope_common", "hdrhistogram"]),
    },
    Layer { module: "reason", may_use: &["units", "clock"], crates: Only(&["thiserror"]) },
    // From the sources to one thread.
    Layer {
        module: "hub",
        may_use: &["aggregate", "clock"],
        crates: Only(&["crossbeam_channel", "tokio", "thiserror"]),
    },
    // A bounded list, for whoever keeps readings.
    Layer { module: "bounded_series", may_use: &[], crates: Only(&[]) },
    // Pure, and without a type of the report: what events add up to, what that means, what is to be said of it.
    Layer {
        module: "aggregate",
        may_use: &["bounded_series", "event", "units", "clock", "plan", "reason"],
        crates: AllBut(EFFECTS),
    },
    Layer {
        module: "figures",
        may_use: &["aggregate", "event", "units", "clock", "plan", "reason"],
        crates: AllBut(EFFECTS),
    },
    Layer {
        module: "verdict",
        may_use: &["figures", "aggregate", "event", "units", "clock", "plan", "reason"],
        crates: AllBut(EFFECTS),
    },
    Layer { module: "cli", may_use: &["units", "clean", "secrets"], crates: AllBut(&["anyhow"]) },
    Layer {
        module: "plan",
        may_use: &["cli", "units", "secrets", "report::view"],
        crates: AllBut(&["anyhow", "tokio", "aya", "reqwest"]),
    },
    // The sources: they emit events and do not know of each other.
    Layer {
        module: "load",
        may_use: &["event", "units", "clock", "plan"],
        crates: AllBut(&["anyhow", "aya", "aya_log", "procfs", "nvml_wrapper"]),
    },
    Layer {
        module: "observe",
        may_use: &["bounded_series", "event", "units", "clock", "plan", "privilege"],
        crates: AllBut(&["anyhow", "reqwest"]),
    },
    // The target of `exec`: started and ended here, observed there. Where cgroups are is `observe`'s to know.
    Layer {
        module: "launch",
        may_use: &["event", "units", "clock", "observe", "privilege", "signals"],
        crates: AllBut(&["anyhow", "aya", "aya_log", "reqwest", "procfs", "nvml_wrapper"]),
    },
    // Figures and findings in, model out: the only place that rounds.
    Layer {
        module: "report::build",
        may_use: &[
            "report::catalogue",
            "report::model",
            "verdict",
            "figures",
            "aggregate",
            "event",
            "units",
            "clock",
            "plan",
            "reason",
            "secrets",
        ],
        crates: AllBut(EFFECTS),
    },
    Layer {
        module: "report::model",
        may_use: &["units"],
        crates: AllBut(&["anyhow", "tokio", "aya", "aya_log", "reqwest", "std::fs"]),
    },
    // What each figure is: for the views, and for the definitions within the model.
    Layer { module: "report::catalogue", may_use: &["report::model"], crates: Only(&["serde"]) },
    // The table of the forms: `plan` chooses by it.
    Layer { module: "report::view", may_use: &["report", "report::model", "secrets"], crates: Only(&[]) },
    Layer {
        module: "report",
        may_use: &["report::catalogue", "report::model", "units", "clean", "secrets"],
        crates: AllBut(&["anyhow", "tokio", "aya", "aya_log", "reqwest", "std::fs"]),
    },
    // The demo's server is measured, so it must not share code with what measures it.
    Layer {
        module: "demo",
        may_use: &["cli", "units", "clock", "console"],
        crates: AllBut(&["anyhow", "tokio", "aya", "reqwest", "procfs", "nvml_wrapper"]),
    },
    // Looks at the machine by itself; what the sources would meet it asks them to try.
    Layer {
        module: "doctor",
        may_use: &["observe", "clean", "privilege"],
        crates: AllBut(&["anyhow", "tokio", "aya", "reqwest"]),
    },
    Layer { module: "session", may_use: EVERYTHING, crates: AllBut(&["anyhow"]) },
    Layer { module: "lib", may_use: EVERYTHING, crates: AllBut(&["anyhow"]) },
    Layer { module: "main", may_use: EVERYTHING, crates: AllBut(&[]) },
];

/// One place where the code breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A source file: its path below `src`, with `/` between the parts, and its text.
type Source = (String, String);

pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let src = workspace.root.join("inferscope/src");
    let mut files = Vec::new();
    collect(&src, &mut files)?;
    let sources = files
        .into_iter()
        .map(|path| {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path.strip_prefix(&src)?.to_string_lossy().into_owned(), text))
        })
        .collect::<Result<Vec<Source>>>()?;
    ensure!(!sources.is_empty(), "no source files in {}", src.display());

    let violations = judge(&sources, &dependencies(workspace)?);
    for violation in &violations {
        eprintln!("inferscope/src/{violation}");
    }
    if !violations.is_empty() {
        bail!("{} dependencies point the wrong way; the rules are in xtask/src/layers.rs", violations.len());
    }
    say(format_args!("layers: {} files keep to them", sources.len()));
    Ok(())
}

/// The rules, one module a line.
pub(crate) fn print() {
    let width = LAYERS.iter().map(|layer| layer.module.len()).max().unwrap_or_default();
    for layer in LAYERS {
        let modules = match layer.may_use {
            [] => "nothing of ours".to_owned(),
            all if all == EVERYTHING => "every module".to_owned(),
            some => some.join(", "),
        };
        let crates = match layer.crates {
            Only([]) => "std alone".to_owned(),
            Only(some) => format!("of crates {}", some.join(", ")),
            AllBut([]) => "any crate".to_owned(),
            AllBut(some) => format!("any crate but {}", some.join(", ")),
        };
        println!("{:width$}  may use {modules}; {crates}", layer.module);
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// The names by which the library's code calls its dependencies.
fn dependencies(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let metadata = captured(workspace.cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == "inferscope").context("no inferscope")?;
    let dependencies = package["dependencies"].as_array().context("inferscope has no dependencies")?;
    let names = dependencies.iter().filter_map(|one| one["rename"].as_str().or(one["name"].as_str()));
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

/// The whole check, on texts.
fn judge(sources: &[Source], externals: &BTreeSet<String>) -> Vec<Violation> {
    let scanned: Vec<_> = sources
        .iter()
        .map(|(file, text)| {
            let module = module_of(file);
            let scan = scan::scan(text, &module);
            (file, module, scan)
        })
        .collect();
    let in_tests: Vec<Vec<String>> = scanned
        .iter()
        .flat_map(|(_, module, scan)| {
            scan.test_modules.iter().map(|name| [module.as_slice(), std::slice::from_ref(name)].concat())
        })
        .collect();

    let mut violations = Vec::new();
    for (file, module, scan) in &scanned {
        if in_tests.iter().any(|test| module.starts_with(test)) {
            continue;
        }
        let violation = |line, what| Violation { file: (*file).clone(), line, what };
        let name =
            if module.is_empty() { file.trim_end_matches(".rs").to_owned() } else { module.join("::") };
        let Some(layer) = layer_of(&name) else {
            violations.push(violation(1, format!("the module {name} is in no layer")));
            continue;
        };
        for mention in &scan.mentions {
            if let Some(what) = complaint(layer, &mention.path, externals) {
                violations.push(violation(mention.line, what));
            }
        }
    }
    violations
}

/// `report/model.rs` is `report::model`, `load/mod.rs` is `load`; the two roots are the empty path.
fn module_of(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || matches!(file, "lib.rs" | "main.rs") {
        module.pop();
    }
    module
}

/// The row with the longest name that `module` is in.
fn layer_of(module: &str) -> Option<&'static Layer> {
    LAYERS.iter().filter(|layer| is_below(module, layer.module)).max_by_key(|layer| layer.module.len())
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn complaint(layer: &Layer, path: &[String], externals: &BTreeSet<String>) -> Option<String> {
    let whole = path.join("::");
    if path[0] == "crate" {
        // `crate::{…}` at the root itself, as in lib.rs' own `pub use`.
        let target = path.get(1).map(|_| path[1..].join("::"))?;
        return match layer_of(&target) {
            None => Some(format!("{whole} is in no layer")),
            Some(other) if other.module == layer.module || layer.may_use.contains(&other.module) => None,
            Some(other) => Some(format!("{} must not use {} ({whole})", layer.module, other.module)),
        };
    }
    let allowed = match layer.crates {
        AllBut(denied) => !denied.iter().any(|denied| is_below(&whole, denied)),
        Only(allowed) => !externals.contains(&path[0]) || allowed.contains(&path[0].as_str()),
    };
    (!allowed).then(|| format!("{} must not use {whole}", layer.module))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        let externals = ["tokio", "aya", "serde", "rustix", "anyhow"].map(str::to_owned).into();
        judge(&sources, &externals).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sources_that_know_each_other_are_found_on_their_line() {
        assert_eq!(
            complaints(&[("load/http.rs", "\nuse crate::observe::proc::Sample;\n")]),
            ["load/http.rs:2: load must not use observe (crate::observe::proc::Sample)"]
        );
        assert_eq!(
            complaints(&[("observe/mod.rs", "fn f() { super::load::drive() }")]),
            ["observe/mod.rs:1: observe must not use load (crate::load::drive)"]
        );
    }

    #[test]
    fn the_way_down_is_free() {
        let files = [
            ("load/http.rs", "use crate::{event::Chunk, clock, units::Nanos, plan::Load};"),
            (
                "report/build/report.rs",
                "use crate::report::model::Report; use crate::units; use self::dist::x;",
            ),
            ("session.rs", "use crate::{load, observe, figures, report}; use tokio::task;"),
            ("main.rs", "use anyhow::Result; fn main() { std::fs::read(x) }"),
            ("lib.rs", "pub mod session; pub use crate::session::go;"),
        ];
        assert_eq!(complaints(&files), [""; 0]);
    }

    #[test]
    fn a_conflicts_markers_are_passed_over() {
        let text = "use crate::{\n<<<<<<< HEAD\n    load,\n=======\n    observe,\n>>>>>>> main\n};";
        assert!(!complaints(&[("figures/load.rs", text)]).is_empty());
    }

    #[test]
    fn pure_layers_have_no_effects() {
        assert_eq!(
            complaints(&[("figures/dist.rs", "use std::{fs, io};\nuse tokio::time;")]),
            [
                "figures/dist.rs:1: figures must not use std::fs",
                "figures/dist.rs:2: figures must not use tokio::time",
            ]
        );
        assert_eq!(
            complaints(&[("report/text.rs", "fn f() { std::fs::write(a, b) } use aya_log::X;")]),
            [
                "report/text.rs:1: report must not use std::fs::write",
                "report/text.rs:1: report must not use aya_log::X",
            ]
        );
    }

    #[test]
    fn figures_see_no_type_of_the_report() {
        assert_eq!(
            complaints(&[("figures/load.rs", "use crate::report::{model, text};")]),
            [
                "figures/load.rs:1: figures must not use report::model (crate::report::model)",
                "figures/load.rs:1: figures must not use report (crate::report::text)",
            ]
        );
        assert_eq!(
            complaints(&[("report/model.rs", "use super::text;")]),
            ["report/model.rs:1: report::model must not use report (crate::report::text)"]
        );
    }

    #[test]
    fn base_uses_only_what_is_listed_and_anyhow_stays_at_the_edge() {
        assert_eq!(
            complaints(&[("units.rs", "use serde::Serialize; use std::fmt; use rustix::time;")]),
            ["units.rs:1: units must not use rustix::time"]
        );
        assert_eq!(
            complaints(&[("session.rs", "fn f() -> anyhow::Result<()> {}")]),
            ["session.rs:1: session must not use anyhow::Result"]
        );
    }

    #[test]
    fn tests_are_exempt_in_the_file_and_in_files_of_their_own() {
        let files = [
            ("plan.rs", "#[cfg(test)] mod tests;\n#[cfg(test)] mod more { use crate::session; }"),
            ("plan/tests.rs", "use crate::session::go;"),
            ("plan/tests/deep.rs", "use crate::session::go;"),
        ];
        assert_eq!(complaints(&files), [""; 0]);
    }

    #[test]
    fn new_module_has_to_find_its_layer() {
        assert_eq!(complaints(&[("utils.rs", "")]), ["utils.rs:1: the module utils is in no layer"]);
        assert_eq!(
            complaints(&[("session.rs", "use crate::utils::x;")]),
            ["session.rs:1: crate::utils::x is in no layer"]
        );
    }

    #[test]
    fn every_layer_that_a_row_names_has_a_row() {
        for name in LAYERS.iter().flat_map(|layer| layer.may_use) {
            assert!(LAYERS.iter().any(|layer| layer.module == *name), "{name}");
        }
    }
}
