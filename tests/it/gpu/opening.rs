//! A driver that does not even come back from its beginning: a signal ends a run all the same.

use std::process::Command;
use std::time::Duration;

use inferscope_tests::binary::{self, Ended};
use inferscope_tests::clock::monotonic_ns;
use inferscope_tests::gpu::Scene;
use inferscope_tests::process;
use inferscope_tests::wait::wait_until;
use serde_json::json;

const INTERRUPTED: Option<i32> = Some(130);
/// Of a run that was told to end; the driver hangs for longer.
const SOON: Duration = Duration::from_secs(4);

/// Waits until the library is being loaded, and interrupts.
fn interrupted(command: Command) -> Ended {
    let running = binary::start_as(command);
    wait_until("it loads the library", || process::has_thread(running.process.pid(), "nvml"));
    std::thread::sleep(Duration::from_millis(100));
    running.process.interrupt();
    running.within(SOON).expect("a signal ends it")
}

#[test]
fn a_signal_ends_a_run_whose_driver_hangs_in_its_beginning() {
    let hang = json!([{"call": "nvmlInit_v2", "from_ms": 0, "for_ms": 600_000}]);
    let scene = Scene::new(json!({"hang": hang, "devices": []}));
    scene.begin_at(monotonic_ns() - 1_000_000_000);
    let own = std::process::id().to_string();
    let ended = interrupted(scene.command(&["observe", "--pid", &own, "--json"]));
    assert_eq!(ended.code, INTERRUPTED, "{ended:#?}");
    let report = ended.json();
    let why = report["gpus_reason"].as_str().unwrap_or_default();
    assert!(why.contains("did not answer before the run was told to end"), "{why}");
}
