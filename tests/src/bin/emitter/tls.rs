//! The emitter's side of TLS.
//!
//! Owns a certificate for this machine's loopback, made anew each time, and a connection's session: bytes in, bytes out.
//! No input or output but the certificate's file. Called by `server`.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

/// Writes the certificate, for the client to trust, to `file`.
pub(crate) fn config(file: &Path) -> io::Result<Arc<ServerConfig>> {
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).map_err(io::Error::other)?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .map_err(io::Error::other)?;
    std::fs::write(file, cert.pem())?;
    Ok(Arc::new(config))
}

pub(crate) struct Session(ServerConnection);

impl Session {
    pub(crate) fn new(config: &Arc<ServerConfig>) -> io::Result<Self> {
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        session.set_buffer_limit(None);
        Ok(Self(session))
    }

    /// Takes in what was received; what it says goes to `inbox`, and what is to be answered comes back.
    pub(crate) fn receive(&mut self, mut bytes: &[u8], inbox: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        while !bytes.is_empty() {
            if self.0.read_tls(&mut bytes)? == 0 {
                break;
            }
            let plain = self.0.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
            let at = inbox.len();
            inbox.resize(at + plain, 0);
            self.0.reader().read_exact(&mut inbox[at..])?;
        }
        self.records()
    }

    /// `bytes` as they go over the connection.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.writer().write_all(bytes)?;
        self.records()
    }

    fn records(&mut self) -> io::Result<Vec<u8>> {
        let mut records = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut records)?;
        }
        Ok(records)
    }
}
