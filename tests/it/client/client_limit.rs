//! What keeps the client from sending is none of the server's failures.

use std::process::Command;

use inferscope_tests::binary;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::report::{Level, Named};

/// Open files that inferscope may have: enough for everything but the connections.
const FILES: u64 = 64;

fn limited(args: &[&str]) -> binary::Ended {
    let mut command = Command::new("bash");
    // Both limits: inferscope raises the soft one to the hard one.
    command.args(["-c", &format!("ulimit -n {FILES} && exec \"$0\" \"$@\"")]);
    command.arg(binary::inferscope_bin()).args(args);
    binary::start_as(command).wait()
}

#[test]
fn too_few_open_files_are_the_clients_limit_and_not_the_servers_failure() {
    let server = Emitter::start(&["--first-token", "200ms", "--tokens", "4"]);
    let load = ["--endpoint", &server.endpoint, "--gpu", "off", "--tracker", "proc"];
    let shape = ["--requests", "150", "--concurrency", "150"];
    let report = limited(&[&load[..], &shape, &["--json"]].concat()).report();
    let (told, failures) = (&report["load"], report["load"].list("failures"));
    assert!(told.whole("requests_ok") > 0, "{told}");
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0]["kind"], "client_limit");
    assert_eq!(failures[0]["count"], told["requests_failed"]);
    let limit = report.finding("client_limit").expect("it is told");
    assert_eq!(limit.level, Level::Invalid);
    assert!(limit.message.contains("ulimit -Hn"), "{limit:?}");
    assert!(report.finding("requests_failed").is_none(), "the server failed none: {:#?}", report.validity);

    let text = limited(&[&load[..], &shape].concat()).stdout;
    let requests = text.lines().find(|line| line.contains(" ok, ")).unwrap_or_else(|| panic!("{text}"));
    assert!(requests.contains("0 failed") && requests.contains("limit of this client's"), "{requests}");

    // With a limit that suffices there is nothing to tell.
    let few = ["--requests", "20", "--concurrency", "4", "--json"];
    let report = limited(&[&load[..], &few].concat()).report();
    assert_eq!((report.load().requests_failed, report.finding("client_limit")), (0, None));
    let _ = server.end();
}
