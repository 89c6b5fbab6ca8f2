//! Against TLS servers of a thread each, with certificates made for the test.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

use super::super::tests::{
    CHUNKED, CONVERSION, Client, DONE, LAST, PATIENCE, TEXT, piece, plan, serve, times, whole,
};
use super::*;
use crate::clock::Mono;
use crate::event::{FailureKind, RequestLog};
use crate::units::Nanos;

/// What a server shows, and what the user may pass.
struct Shown {
    leaf: Certificate,
    key: KeyPair,
    /// Its CA, where it has one.
    ca: Option<Certificate>,
}

fn params(names: &[&str], common: &str) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

/// Signed by a CA that nobody knows.
fn of_a_ca(change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = params(&[], "an authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&ca_key).unwrap();
    let mut leaf = params(&["127.0.0.1", "localhost"], "a server");
    change(&mut leaf);
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    Shown { leaf, key, ca: Some(certificate) }
}

/// As `openssl req -x509` makes it: its own authority.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let key = KeyPair::generate().unwrap();
    let mut leaf = params(&["127.0.0.1", "localhost"], "a server");
    leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut leaf);
    Shown { leaf: leaf.self_signed(&key).unwrap(), key, ca: None }
}

impl Shown {
    fn config(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

/// The server's end of a connection.
struct Secured {
    session: ServerConnection,
    tcp: TcpStream,
}

impl Secured {
    /// `None`: the other side does not want what it is shown.
    fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Option<Self> {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut session = ServerConnection::new(Arc::clone(config)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut tcp).ok()?;
        }
        Some(Self { session, tcp })
    }

    /// Whether one came.
    fn request(&mut self) -> bool {
        let mut text = Vec::new();
        while !text.ends_with(b"{}") {
            let mut bytes = [0; 512];
            match rustls::Stream::new(&mut self.session, &mut self.tcp).read(&mut bytes) {
                Ok(n) if n > 0 => text.extend_from_slice(&bytes[..n]),
                _ => return false,
            }
        }
        true
    }

    /// As records, not written yet.
    fn records(&mut self, text: &str) -> Vec<u8> {
        self.session.writer().write_all(text.as_bytes()).unwrap();
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records).unwrap();
        }
        records
    }

    /// The time right before the writing, and right after.
    fn say(&mut self, text: &str) -> (Mono, Mono) {
        let records = self.records(text);
        let before = Mono::now();
        self.tcp.write_all(&records).unwrap();
        (before, Mono::now())
    }
}

/// Answers whatever comes over one connection after another, until one is closed without a request, or refused.
fn answering(shown: &Shown, connections: usize) -> (u16, JoinHandle<usize>) {
    let config = shown.config();
    serve(move |listener| {
        let mut answered = 0;
        for _ in 0..connections {
            let Some(mut peer) = Secured::accept(&listener, &config) else { continue };
            while peer.request() {
                peer.say(&whole());
                answered += 1;
            }
        }
        answered
    })
}

struct Asked {
    insecure: bool,
    /// The PEM that is given.
    cacert: Option<String>,
    host: &'static str,
}

async fn ask(shown: &Shown, asked: Asked) -> (RequestLog, Client) {
    let (port, server) = answering(shown, 1);
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan(5_000);
    plan.insecure = asked.insecure;
    plan.cacert = asked.cacert.map(|pem| {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        path
    });
    let mut client = Client::new(&format!("https://{}:{port}", asked.host), &plan);
    let log = client.post("{}").await;
    client.forget_connections();
    assert_eq!(server.join().unwrap(), usize::from(log.failure.is_none()));
    (log, client)
}

fn given(shown: &Shown) -> Asked {
    let pem = shown.ca.as_ref().unwrap_or(&shown.leaf).pem();
    Asked { insecure: false, cacert: Some(pem), host: "127.0.0.1" }
}

#[tokio::test]
async fn a_private_ca_and_a_servers_own_certificate_are_believed_where_they_are_given() {
    let own = self_signed(|_| {});
    let no_authority = self_signed(|params| params.is_ca = IsCa::NoCa);
    let of_ca = of_a_ca(|_| {});
    let leaf_alone = Asked { cacert: Some(of_ca.leaf.pem()), ..given(&of_ca) };
    for (what, shown, asked) in [
        ("its CA", &of_ca, given(&of_ca)),
        ("itself, without its CA", &of_ca, leaf_alone),
        ("itself, an authority", &own, given(&own)),
        ("itself", &no_authority, given(&no_authority)),
        ("itself, by another name", &own, Asked { host: "localhost", ..given(&own) }),
    ] {
        let (log, client) = ask(shown, asked).await;
        assert_eq!(log.failure, None, "{what}");
        let own = client.http.client_log();
        assert_eq!(own.unstamped_reads, 0, "{what}: the kernel's times are there");
        assert!(own.read_lag.is_some() && log.connect.is_some() && !client.http.is_unchecked());
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_refused_in_one_line() {
    let past = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    };
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2090, 1, 1);
    let elsewhere = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.example".try_into().unwrap())];
    };
    for (shown, said) in [
        (of_a_ca(past), "has expired: it was valid until 2021-01-01T00:00:00Z"),
        (self_signed(past), "has expired: it was valid until 2021-01-01T00:00:00Z"),
        (self_signed(future), "is not valid before 2090-01-01T00:00:00Z"),
        (of_a_ca(elsewhere), "is not for 127.0.0.1 but for "),
        (self_signed(elsewhere), "is not for 127.0.0.1 but for "),
    ] {
        let (log, _) = ask(&shown, given(&shown)).await;
        let failure = log.failure.unwrap();
        assert_eq!(failure.kind, FailureKind::Certificate, "{}", failure.message);
        assert!(failure.message.contains(said) && !failure.message.contains('\n'), "{}", failure.message);
    }
    // One that nobody vouches for; and another's that has the same names.
    let shown = self_signed(|_| {});
    let others = given(&self_signed(|_| {}));
    let (log, _) = ask(&shown, others).await;
    let failure = log.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Certificate);
    assert!(
        failure.message.contains("(self-signed)") && !failure.message.contains("Other"),
        "{}",
        failure.message
    );
    let (log, client) = ask(&shown, Asked { cacert: None, insecure: true, ..given(&shown) }).await;
    assert!(log.failure.is_none() && client.http.is_unchecked());
}

#[tokio::test]
async fn a_connection_through_tls_is_used_again_and_its_end_is_seen() {
    let shown = of_a_ca(|_| {});
    let config = shown.config();
    let (port, server) = serve(move |listener| {
        let mut peer = Secured::accept(&listener, &config).unwrap();
        for _ in 0..3 {
            assert!(peer.request());
            peer.say(&whole());
        }
        // In good order, with the alert that says so.
        peer.session.send_close_notify();
        peer.say("");
        drop(peer);
        let mut peer = Secured::accept(&listener, &config).unwrap();
        assert!(peer.request());
        peer.say(&whole());
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, shown.ca.unwrap().pem()).unwrap();
    let mut plan = plan(5_000);
    plan.cacert = Some(path);
    let mut client = Client::new(&format!("https://127.0.0.1:{port}"), &plan);
    for n in 0..4 {
        if n == 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = client.post("{}").await;
        assert_eq!(log.failure, None);
        assert_eq!(log.connect.is_some(), n == 0 || n == 3, "{n}");
    }
    assert_eq!((client.connections(), client.http.resent().requests), (2, 0));
    server.join().unwrap();
}

/// A server that pauses before it shakes hands.
#[tokio::test]
async fn the_handshake_is_in_no_latency_of_a_closed_loop() {
    let shown = self_signed(|_| {});
    let config = shown.config();
    let (port, server) = serve(move |listener| {
        thread::sleep(Duration::from_millis(300));
        let mut peer = Secured::accept(&listener, &config).unwrap();
        peer.request();
        peer.say(&whole());
    });
    let mut plan = plan(5_000);
    plan.insecure = true;
    let log = Client::new(&format!("https://127.0.0.1:{port}"), &plan).post("{}").await;
    server.join().unwrap();
    assert_eq!(log.failure, None);
    let took = Nanos::from_millis(250);
    assert!(log.connect.unwrap() > took && log.done.since(log.sent) > took, "{log:?}");
    assert!(log.done.since(log.waited_from()) < took, "{log:?}");
}

#[tokio::test]
async fn a_stamp_is_of_the_read_that_completed_its_record_however_late_the_client_reads() {
    let shown = self_signed(|_| {});
    let config = shown.config();
    let (port, server) = serve(move |listener| {
        let mut peer = Secured::accept(&listener, &config).unwrap();
        peer.request();
        peer.say(CHUNKED);
        let mut wrote = Vec::new();
        for n in 0..6 {
            thread::sleep(Duration::from_millis(70));
            if n % 2 == 0 {
                wrote.push(peer.say(&piece(TEXT)));
                continue;
            }
            // In two packets: it is there with the second.
            let records = peer.records(&piece(TEXT));
            peer.tcp.write_all(&records[..records.len() / 2]).unwrap();
            thread::sleep(Duration::from_millis(70));
            let before = Mono::now();
            peer.tcp.write_all(&records[records.len() / 2..]).unwrap();
            wrote.push((before, Mono::now()));
        }
        peer.say(&(piece(DONE) + LAST));
        wrote
    });
    let mut plan = plan(5_000);
    plan.insecure = true;
    let mut client = Client::new(&format!("https://127.0.0.1:{port}"), &plan);
    // Another task that holds the thread again and again.
    let busy = async {
        for _ in 0..18 {
            thread::sleep(Duration::from_millis(45));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (log, ()) = tokio::join!(client.post("{}"), busy);
    let wrote = server.join().unwrap();
    assert_eq!(log.failure, None);
    let times = times(&log);
    assert_eq!(times.len(), 6);
    let mut late = 0;
    for (t, (before, after)) in times.iter().zip(wrote) {
        assert!(t.plus(CONVERSION) >= before, "{t:?} not before {before:?}");
        late += usize::from(*t > after.plus(Nanos::from_millis(5)));
    }
    assert!(late <= 1, "{late} of 6 stamps are later than the writing");
    assert!(client.http.client_log().read_lag.unwrap().max() > 15_000_000, "the reads were late");
}
