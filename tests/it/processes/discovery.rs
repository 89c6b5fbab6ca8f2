//! Finding the server by what listens on the endpoint.

use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use inferscope_tests::process::Group;
use inferscope_tests::report::{Named, Report};
use inferscope_tests::{binary, requirements};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// A process of python's that listens and says so; bounded in time. Where it has an address of its own, it gives
/// that to its network namespace's loopback device first.
const LISTENER: &str = r#"
import fcntl, socket, struct, sys, time
address, port, own = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "own"
if own:
    control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    SIOCSIFADDR, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8916, 0x8913, 0x8914
    up = struct.pack("16sh14x", b"lo", 0x1 | 0x40)
    fcntl.ioctl(control, SIOCSIFFLAGS, up)
    request = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(address))
    fcntl.ioctl(control, SIOCSIFADDR, request)
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind((address, port))
s.listen()
print(s.getsockname()[1], flush=True)
time.sleep(120)
"#;

fn listener(through: &[&str], address: &str, port: u16, own: bool) -> (Group, u16) {
    let mut line = through.to_vec();
    let port = port.to_string();
    line.extend(["python3", "-c", LISTENER, address, &port, if own { "own" } else { "" }]);
    let mut command = Command::new(line[0]);
    let group = Group::talking(command.args(&line[1..]));
    let port = group.line(LIMIT).parse().expect("a port");
    (group, port)
}

fn observed(endpoint: &str) -> Report {
    binary::run(&["observe", "--json", "--duration", "100ms", "--endpoint", endpoint]).report()
}

fn roots(report: &Value) -> Vec<u64> {
    report["target"].list("pids").iter().filter_map(Value::as_u64).collect()
}

#[test]
fn unrelated_processes_that_share_a_port_are_all_roots() {
    let (first, port) = listener(&[], "127.0.0.1", 0, false);
    let (second, _) = listener(&[], "127.0.0.1", port, false);
    let mut want = [first.pid(), second.pid()].map(u64::from);
    want.sort_unstable();
    assert_eq!(roots(&observed(&format!("http://127.0.0.1:{port}"))), want);
    // By name too, whatever it resolves to first.
    assert_eq!(roots(&observed(&format!("http://localhost:{port}"))), want);
}

#[test]
fn a_listener_on_ipv6_is_found() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        requirements::say("skipped: needs IPv6 on the loopback device: a listener on it");
        return;
    }
    let (loopback, port) = listener(&[], "::1", 0, false);
    assert_eq!(roots(&observed(&format!("http://[::1]:{port}"))), [u64::from(loopback.pid())]);
    // A wildcard socket of IPv6 serves IPv4 as well.
    let (wildcard, port) = listener(&[], "::", 0, false);
    assert_eq!(roots(&observed(&format!("http://127.0.0.1:{port}"))), [u64::from(wildcard.pid())]);
}

#[test]
fn a_listener_in_another_network_namespace_is_found_by_its_address() {
    if !requirements::kernel("another network namespace") {
        return;
    }
    const ADDRESS: &str = "10.213.77.2";
    let (elsewhere, port) = listener(&["unshare", "--net"], ADDRESS, 0, true);
    let report = observed(&format!("http://{ADDRESS}:{port}"));
    assert_eq!(roots(&report), [u64::from(elsewhere.pid())]);
    let how = report["target"].text("how_found");
    assert!(how.contains("in the network namespace of process"), "{how}");
    // A loopback address is not the same place there: it is named and not taken.
    let (namesake, port) = listener(&["unshare", "--net"], "0.0.0.0", port, false);
    let refused =
        binary::run(&["observe", "--duration", "100ms", "--endpoint", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let hint =
        [&elsewhere, &namesake].map(|group| format!("pass --pid {} if that is the server", group.pid()));
    assert!(hint.iter().any(|hint| refused.stderr.contains(hint)), "{}", refused.stderr);
}

/// Any program can call itself so, and point wherever it likes.
#[test]
fn a_listener_that_calls_itself_dockers_proxy_to_itself_is_the_target() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut shell = Command::new("bash");
    shell.arg0("/usr/bin/docker-proxy").args(["-c", "echo ready; read -r word", "x", "-container-ip"]);
    shell.args(["127.0.0.1", "-container-port", &port.to_string()]);
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let proxy = Group::talking(&mut shell);
    drop(socket);
    assert_eq!(proxy.line(LIMIT), "ready");
    assert_eq!(roots(&observed(&format!("http://127.0.0.1:{port}"))), [u64::from(proxy.pid())]);
}

#[test]
fn an_endpoint_that_nobody_listens_on_is_an_error_with_a_remedy() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ended =
        binary::run(&["observe", "--duration", "100ms", "--endpoint", &format!("http://127.0.0.1:{free}")]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains(&format!("listens on 127.0.0.1:{free}")), "{}", ended.stderr);
    assert!(ended.stderr.contains("pass --pid"), "{}", ended.stderr);
}
