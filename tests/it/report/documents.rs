//! Every command that a document shows is run, every link leads somewhere, and every name in the contract is in the schema.
//!
//! A block of `sh` is run line by line in a folder of the document's own, against a server, a process and a cgroup of the
//! test's in the place of those that the document names, and for shorter. A block that can't be run says why (`sh no-run:
//! REASON`), and is listed.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use inferscope_tests::binary;
use inferscope_tests::cgroup::Cgroup;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::process::Group;
use inferscope_tests::requirements::{self, say};
use serde_json::Value;

/// No command of a document takes longer.
const LIMIT: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A document's path within the repository, and its text.
type Document = (String, String);

/// README.md, CONTRIBUTING.md and what is below docs/.
fn documents() -> Vec<Document> {
    let root = root();
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What stands between two fences.
#[derive(Debug)]
struct Block<'d> {
    language: &'d str,
    /// Why it is not run.
    no_run: Option<&'d str>,
    /// With the number of the line.
    lines: Vec<(usize, &'d str)>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (n, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                let (language, more) = info.split_once(' ').unwrap_or((info, ""));
                let no_run = more.strip_prefix("no-run: ").map(str::trim);
                open = Some(Block { language, no_run, lines: Vec::new() });
            }
            (None, Some(block)) => block.lines.push((n + 1, line)),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// What a line is run against.
struct Bench {
    server: Emitter,
    /// Before its cgroup, as fields are dropped in order.
    sleeper: Group,
    cgroup: Cgroup,
}

impl Bench {
    fn start() -> Option<Self> {
        let server = Emitter::start(&[
            "--first-token",
            "2ms",
            "--interval",
            "100us",
            "--tokens",
            "16",
            "--lifetime",
            "120s",
        ]);
        let cgroup = Cgroup::make("the documents' cgroup")?;
        let sleeper = Group::start(Command::new("sleep").arg("600").stdout(Stdio::null()));
        for file in cgroup.procs_files() {
            fs::write(file, sleeper.pid().to_string()).unwrap();
        }
        Some(Self { server, sleeper, cgroup })
    }

    /// The line with what this machine has in the place of what the document names.
    fn adapted(&self, line: &str) -> String {
        let cgroup = self.cgroup.v2().to_str().unwrap();
        let pid = self.sleeper.pid().to_string();
        line.replace("http://127.0.0.1:8000", &self.server.endpoint)
            .replace("/sys/fs/cgroup/my.slice", cgroup)
            .replace("4242", &pid)
            .replace("--duration 60s", "--duration 1s")
            .replace("--duration 30s", "--duration 500ms")
            .replace("--duration 2s", "--duration 500ms")
    }
}

/// What the commands of a document read.
fn furnish(folder: &Path) {
    let prompt =
        |n: u32| format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"question {n}\"}}]}}\n");
    fs::write(folder.join("sharegpt.jsonl"), (0..8).map(prompt).collect::<String>()).unwrap();
    fs::write(folder.join("Makefile"), "all:\n\t@true\n").unwrap();
}

#[test]
fn every_command_of_every_document_runs() {
    if !requirements::kernel("the documents' commands") {
        return;
    }
    let Some(bench) = Bench::start() else { return };
    let mut path = vec![binary::inferscope_bin().parent().unwrap().to_owned()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(path).unwrap();
    let mut ran = 0;
    for (name, text) in documents() {
        let folder = tempfile::tempdir().unwrap();
        furnish(folder.path());
        for block in blocks(&text).iter().filter(|block| block.language == "sh") {
            if let Some(reason) = block.no_run {
                let lines: Vec<&str> = block.lines.iter().map(|(_, line)| *line).collect();
                say(&format!("not run: {name}: {reason}: {}", lines.join(" ; ")));
                continue;
            }
            for (n, line) in &block.lines {
                let program = line.split(' ').next().unwrap_or_default();
                if has_no(program) {
                    say(&format!("skipped: needs {program}: {name}:{n}: {line}"));
                    continue;
                }
                let mut command = Command::new("bash");
                command.args(["-euo", "pipefail", "-c", &bench.adapted(line)]);
                command.current_dir(folder.path()).env("PATH", &path);
                let ended = binary::start_as(command).within(LIMIT);
                let ended = ended.unwrap_or_else(|| panic!("{name}:{n}: longer than {LIMIT:?}: {line}"));
                assert_eq!(ended.code, Some(0), "{name}:{n}: {line}\n{}\n{}", ended.stdout, ended.stderr);
                ran += 1;
            }
        }
    }
    say(&format!("{ran} commands of the documents ran"));
    assert!(ran > 30, "{ran}");
}

/// jq and make are not of every machine.
fn has_no(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).status();
    program != "inferscope" && !found.is_ok_and(|status| status.success())
}

#[test]
fn a_command_stands_in_a_block_that_is_run_or_says_why_not() {
    for (name, text) in documents() {
        for block in blocks(&text) {
            assert!(["", "sh", "text"].contains(&block.language), "{name}: {}", block.language);
            assert!(block.no_run.is_none_or(|reason| !reason.is_empty()), "{name}: {block:?}");
            let is_command = |line: &str| {
                ["inferscope --", "cargo ", "jq ", "sudo ", "docker "]
                    .iter()
                    .any(|start| line.starts_with(start))
            };
            let stray = block.lines.iter().find(|(_, line)| block.language != "sh" && is_command(line));
            assert_eq!(stray, None, "{name}: mark the block as sh");
        }
    }
}

/// What stands between `open` and `close`, again and again.
fn between<'t>(text: &'t str, open: &str, close: char) -> Vec<&'t str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once(close).map(|(inner, _)| inner)).collect()
}

#[test]
fn every_link_leads_to_a_file() {
    let mut seen = 0;
    for (name, text) in documents() {
        for link in between(&text, "](", ')') {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let path = root().join(&name).parent().unwrap().join(file);
            assert!(path.exists(), "{name}: {link} leads nowhere");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

/// Source and documents of the repository.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        if path.is_dir() {
            if !["target", ".git", "corpus", "snapshots"].contains(&name) {
                sources(&path, found);
            }
        } else if ["rs", "md", "toml", "sh"].iter().any(|ending| path.extension() == Some(ending.as_ref())) {
            found.push(path);
        }
    }
}

#[test]
fn no_file_cites_a_document_that_is_not_there() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let there: BTreeSet<String> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    // A history may name what was there.
    let files =
        files.iter().filter(|path| !path.ends_with("CHANGELOG.md") && !path.ends_with("documents.rs"));
    for path in files {
        let text = fs::read_to_string(path).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
        let cited = words
            .map(|word| word.trim_end_matches('.'))
            .filter(|word| word.ends_with(".md") && word.starts_with(|c: char| c.is_ascii_uppercase()));
        for word in cited {
            assert!(there.contains(word), "{}: there is no {word}", path.display());
        }
    }
}

/// Every field and every enumerated value of the schema.
fn names(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => found.extend(properties.keys().cloned()),
                    ("const", Value::String(word)) => drop(found.insert(word.clone())),
                    ("enum", Value::Array(words)) => {
                        found.extend(words.iter().filter_map(|word| word.as_str().map(str::to_owned)));
                    }
                    _ => {}
                }
                names(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn every_name_in_the_contract_is_in_the_schema() {
    let contract = fs::read_to_string(root().join("docs/contract.md")).unwrap();
    let (_, tables) = contract.split_once("## JSON report").unwrap();
    let (tables, prose) = tables.split_once("Validity codes").unwrap();
    let schema = fs::read_to_string(root().join("inferscope/schema/report.v1.json")).unwrap();
    let mut known = BTreeSet::new();
    names(&serde_json::from_str(&schema).unwrap(), &mut known);
    let mut checked = 0;
    let is_name = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let mut check = |word: &str, known: &BTreeSet<String>| {
        assert!(known.contains(word), "docs/contract.md: {word} is in no report");
        checked += 1;
    };
    for quoted in
        tables.split('`').skip(1).step_by(2).filter(|quoted| !quoted.contains(' ') || quoted.contains('{'))
    {
        let words = quoted.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(is_name).filter(|word| *word != "null") {
            check(word, &known);
        }
    }
    // Codes are words of the source's, or variants that serde writes so.
    let mut source = String::new();
    let mut files = Vec::new();
    sources(&root().join("inferscope/src"), &mut files);
    files.iter().for_each(|path| source.push_str(&fs::read_to_string(path).unwrap()));
    let doubts = fs::read_to_string(root().join("inferscope/src/verdict/doubt.rs")).unwrap();
    for code in prose.split('`').skip(1).step_by(2).filter(is_name) {
        let variant: String = code.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        let is_written = source.contains(&format!("\"{code}\""));
        let is_variant = doubts.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == variant);
        assert!(is_written || is_variant, "docs/contract.md: no check has the code {code}");
    }
    assert!(checked > 100, "{checked}");
}
