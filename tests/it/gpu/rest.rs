//! The wait before the load, in which the devices are at rest: when it is, and that it can be broken off.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use inferscope_tests::binary::{self, Running};
use inferscope_tests::clock::monotonic_ns;
use inferscope_tests::gpu::{Load, Scene};
use inferscope_tests::report::Named;
use inferscope_tests::script::steady;
use inferscope_tests::timed_server::{Answer, TimedServer};
use serde_json::json;

use crate::{GB, device};
use inferscope_tests::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(20);
const POLLING: &str = "nvml";

/// One power before the curve begins, another after. The command's pid is not known to the scenario, so the device is
/// named to inferscope.
fn scene(before_w: f64, after_w: f64) -> Scene {
    let mut l4 = device("NVIDIA L4", 24 * GB, 2 * GB, &[(0.0, before_w * 1e3), (1.0, after_w * 1e3)], 72);
    l4["processes"] = json!([]);
    l4["sm"] = json!(0);
    Scene::new(json!({"devices": [l4]}))
}

#[test]
fn a_server_that_exec_starts_is_at_rest_when_it_waits_for_requests() {
    let scene = scene(10.0, 40.0);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (endpoint, port) = (format!("http://{address}"), address.port().to_string());
    let emitter = binary::sibling("emitter");
    let args = ["exec", "--gpu", "0", "--gpu-baseline", "400ms", "--endpoint", &endpoint, "--requests", "3"];
    let mut command = scene.command(&args);
    command.args(["--json", "--"]).arg(emitter).args(["--port", &port, "--lifetime", "20s"]);
    let running = binary::start_as(command);
    wait_until("the server listens", || TcpStream::connect(address).is_ok());
    // From here on it is loaded, and at rest it takes 40 W.
    scene.begin_at(monotonic_ns());
    let report = running.wait().report();
    let gpu = &report["gpus"][0];
    assert!((38_000.0..=40_000.0).contains(&gpu.real("idle_power_mw")), "{gpu:#}");
    assert_eq!(report["load"]["requests_ok"], 3, "{:#}", report["load"]);
}

#[test]
fn a_command_without_a_load_is_measured_against_the_machine_without_it() {
    let scene = scene(20.0, 60.0);
    let dir = tempfile::tempdir().unwrap();
    let begun = dir.path().join("begun");
    let mut command = scene.command(&["exec", "--gpu", "0", "--gpu-baseline", "600ms", "--json"]);
    command.args(["--", "sh", "-c", "touch $0; sleep 3"]).arg(&begun);
    let running = binary::start_as(command);
    wait_until("the command runs", || begun.exists());
    scene.begin_at(monotonic_ns());
    let report = running.wait().report();
    let gpu = &report["gpus"][0];
    assert_eq!(gpu["idle_power_mw"], 20_000, "{gpu:#}");
    // The wait is not in the command's figures: a third of them would be 20 W.
    let mean = gpu["power_mw"].real("mean");
    assert!(mean > 55_000.0, "{mean} mW hold the wait before the command");
    let (all, above) = (gpu.real("energy_mj"), gpu.real("energy_above_idle_mj"));
    assert!(above > all * 0.6 && above < all * 0.7, "40 of 60 W are above rest, not {above} of {all}");
}

/// Another's job runs all along: what the device draws before the load is none of a rest.
#[test]
fn a_device_on_which_something_computes_before_the_load_is_not_at_rest() {
    let mut l4 = device("NVIDIA L4", 24 * GB, 2 * GB, &[(0.0, 69_000.0)], 72);
    l4["sm"] = json!(97);
    let ran = Scene::new(json!({"devices": [l4]})).run(Load { requests: 2, tokens: 25 }, &[]);
    let gpu = ran.gpu(0);
    assert_eq!((&gpu["at_rest"], &gpu["idle_power_mw"]), (&json!(false), &json!(null)));
    assert!(gpu.text("idle_power_reason").contains("kernels ran 97% of that time"), "{gpu:#}");
    assert_eq!(gpu["energy_above_idle_mj"], json!(null));
    assert!(ran.has_doubt("gpu_not_at_rest"));
}

/// Nothing is sent: the observation is the window.
#[test]
fn an_observation_has_its_energy() {
    let power = [(0.0, 60_000.0)];
    let l4 = device("NVIDIA L4", 24 * GB, 2 * GB, &power, 72);
    let report = Scene::new(json!({"devices": [l4]})).observe("2s");
    let gpu = &report["gpus"][0];
    let (mj, error) = (gpu.real("energy_mj"), gpu.real("energy_error_mj"));
    // Polling begins with the first look and ends with the last.
    let longest = report["run"].real("duration_ns") / 1e9 * 60_000.0;
    assert!(
        mj - error <= longest && mj + error >= 2.0 * 60_000.0 * 0.95,
        "{mj} ± {error}, at most {longest}"
    );
    assert!(error > 0.0 && error < mj * 0.2, "{error}");
}

/// Sends SIGINT as soon as devices are polled; the exit code within ten seconds.
fn broken_off(mut running: Running) -> Option<i32> {
    wait_until("devices are polled", || {
        inferscope_tests::process::has_thread(running.process.pid(), POLLING)
    });
    // The signal is kept from the main thread's wait on, which follows at once.
    std::thread::sleep(Duration::from_millis(300));
    running.process.interrupt();
    let began = Instant::now();
    let code = running.process.wait(LIMIT).code();
    assert!(began.elapsed() < Duration::from_secs(10), "it ended {:?} after the signal", began.elapsed());
    code
}

#[test]
fn ctrl_c_in_the_wait_sends_nothing_and_leaves_a_report() {
    let scene = scene(20.0, 20.0);
    let server = TimedServer::start(Answer::Stream(steady(3, 5, 5)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let args = ["--endpoint", &server.endpoint(), "--gpu-baseline", "60s", "--requests", "3"];
    let mut command = scene.command(&args);
    command.arg("-o").arg(&path);
    assert_eq!(broken_off(binary::start_as(command)), Some(130));
    let report = read(&path);
    assert_eq!(server.exchanges().len(), 0);
    assert_eq!(report["run"]["interrupted"], true);
    assert!(report["gpus"][0]["idle_power_reason"].is_string(), "{:#}", report["gpus"][0]);
}

#[test]
fn ctrl_c_in_the_wait_keeps_the_command_from_running() {
    let scene = scene(20.0, 20.0);
    let dir = tempfile::tempdir().unwrap();
    let (path, begun) = (dir.path().join("report.json"), dir.path().join("begun"));
    let mut command = scene.command(&["exec", "--gpu-baseline", "60s"]);
    command.arg("-o").arg(&path).args(["--", "touch"]).arg(&begun);
    assert_eq!(broken_off(binary::start_as(command)), Some(130));
    assert!(!begun.exists(), "the command ran");
    assert_eq!(read(&path)["run"]["interrupted"], true);
}

fn read(path: &Path) -> serde_json::Value {
    let text = std::fs::read(path).expect("the report was written");
    serde_json::from_slice(&text).expect("it is JSON")
}
