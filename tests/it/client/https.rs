//! Https and proxies: the times of the records, the load that is kept up, and what is said of them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use inferscope_tests::binary;
use inferscope_tests::emitter::{Emitter, by_id};
use inferscope_tests::report::{Level, Named};
use inferscope_tests::requirements::say;
use serde_json::Value;

/// Half of the stamps are nearer to the truth than this on any machine: one that is put aside between its clock and its
/// write is late by itself.
const MEDIAN_NS: i64 = 300_000;
/// Kernel stamps are CLOCK_REALTIME and are converted by reading both clocks.
const CONVERSION_NS: i64 = 10_000;

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a whole number: {value}"))
}

/// How late each token's stamp is, sorted.
fn errors(https: bool, concurrency: usize) -> Vec<i64> {
    let pace = ["--first-token", "30ms", "--tokens", "12", "--interval", "25ms"];
    let emitter = if https { Emitter::start_https(&pace) } else { Emitter::start(&pace) };
    let (at_once, requests) = (concurrency.to_string(), (concurrency * 4).max(16).to_string());
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--tracker", "proc"];
    // As many go before the measured ones: while connections are made, what came lies together.
    args.extend(["--concurrency", &at_once, "--warmup", &at_once, "--requests", &requests]);
    if https {
        args.extend(["--cacert", emitter.certificate()]);
    }
    let report = binary::run(&args).report();
    assert_eq!(report["self"]["unstamped_reads"], 0, "each read has the kernel's time");
    assert!(report.finding("reads_unstamped").is_none());
    assert_eq!(report["load"]["connections_opened"], concurrency);
    let log = emitter.end();
    let (served, run) = (by_id(&log), report["run"].text("id"));
    let origin = whole(&report["run"]["origin_monotonic_ns"]);
    let mut errors = Vec::new();
    for request in report.list("requests").iter().filter(|r| r["warmup"] == false) {
        let served = served[format!("inferscope-{run}-{}", request["id"]).as_str()];
        let chunks = request.list("chunks").iter().filter(|chunk| chunk["kind"] != "other");
        let chunks: Vec<&Value> = chunks.collect();
        assert_eq!(chunks.len(), served.writes.len(), "{request}");
        for (chunk, write) in chunks.iter().zip(&served.writes) {
            errors.push(whole(&chunk["t_ns"]) + origin - i64::try_from(write.at_ns).unwrap());
        }
    }
    errors.sort_unstable();
    errors
}

#[test]
fn stamps_over_https_are_those_of_the_records() {
    for concurrency in [1, 8, 64] {
        for https in [false, true] {
            let errors = errors(https, concurrency);
            let at = |part: f64| errors[((errors.len() as f64 * part) as usize).min(errors.len() - 1)];
            say(&format!(
                "{} at concurrency {concurrency}: {} stamps late by {} us (p50), {} us (p99), {} us at most",
                if https { "https" } else { "http" },
                errors.len(),
                at(0.5) / 1000,
                at(0.99) / 1000,
                at(1.0) / 1000
            ));
            assert!(errors[0] >= -CONVERSION_NS, "seen {} ns after it was written", errors[0]);
            assert!(at(0.5) < MEDIAN_NS, "half are later than {MEDIAN_NS} ns");
        }
    }
}

#[test]
fn a_closed_loop_over_https_keeps_its_requests_under_way() {
    let emitter = Emitter::start_https(&["--first-token", "10ms", "--tokens", "4", "--interval", "5ms"]);
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--tracker", "proc"];
    args.extend(["--cacert", emitter.certificate(), "--requests", "60"]);
    let report = binary::run(&args).report();
    let in_flight = report["load"]["in_flight"].real("mean");
    say(&format!("https, one at a time: {in_flight:.2} in flight"));
    // What is missing is the folding of each request and the sending of the next.
    assert!(in_flight > 0.8, "{in_flight} of 1 in flight");
    assert_eq!(report["load"]["connections_opened"], 1);
    let _ = emitter.end();
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_with_the_remedy_and_taken_where_it_is_asked_for() {
    let emitter = Emitter::start_https(&["--first-token", "5ms", "--tokens", "2"]);
    let args = ["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--tracker", "proc"];
    let refused = binary::run(&args);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert!(lines[0].contains("the server's certificate"), "{}", refused.stderr);
    assert!(lines[1].contains("--cacert F") && lines[1].contains("--insecure"), "{}", refused.stderr);
    let report = binary::run(&[&args[..], &["--insecure"]].concat()).report();
    assert_eq!(report.finding("insecure_tls").expect("it is told").level, Level::Warn);
    let report = binary::run(&[&args[..], &["--cacert", emitter.certificate()]].concat()).report();
    assert!(report.finding("insecure_tls").is_none() && report.finding("proxy_used").is_none());
    let _ = emitter.end();
}

/// Passes on what comes for a host that is nowhere else.
fn proxy(to: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), to.to_owned());
    // Ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(n @ 1..) = client.read(&mut bytes) {
                    // A proxy is asked for the whole URL, its server for the path.
                    let text = String::from_utf8_lossy(&bytes[..n]).replacen("http://model.test", "", 1);
                    server.write_all(text.as_bytes()).unwrap();
                }
            });
        }
    });
    port
}

#[test]
fn a_proxy_that_was_used_is_told_and_so_are_reads_without_the_kernels_times() {
    let emitter = Emitter::start(&["--first-token", "5ms", "--tokens", "4"]);
    let port = proxy(emitter.endpoint.strip_prefix("http://").unwrap());
    let mut command = Command::new("bash");
    let set = format!("export http_proxy=http://user:hunter2@127.0.0.1:{port}; exec \"$0\" \"$@\"");
    command.args(["-c", &set]).arg(binary::inferscope_bin());
    command.args(["--endpoint", "http://model.test", "--json", "--gpu", "off", "--requests", "4"]);
    let ended = binary::start_as(command).wait();
    let report = ended.report();
    let told = report.finding("proxy_used").expect("it is told");
    assert_eq!(told.level, Level::Warn);
    assert!(told.message.contains(&format!("http://127.0.0.1:{port}:")), "{told:?}");
    assert!(report.finding("reads_unstamped").is_some(), "{:#?}", report.validity);
    assert!(!ended.stdout.contains("hunter2"), "a proxy's password is a secret");
    let _ = emitter.end();
}
