//! The server's base URL.

use url::Url;

use super::PlanError;
use crate::secrets::without_credentials;

/// A server's base URL, normalised to end in `/v1/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Takes the URL with or without `/v1`, with or without a trailing slash; a bare `host:port`
    /// means http.
    ///
    /// # Errors
    /// What is no http(s) URL with a host, or carries a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let malformed =
            |why: &str| PlanError::Endpoint { url: without_credentials(text), why: why.to_owned() };
        let trimmed = text.trim();
        let with_scheme =
            if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
        let mut url = Url::parse(&with_scheme).map_err(|e| malformed(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(malformed("the scheme is neither http nor https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(malformed("it has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("it holds credentials; pass them with -H or --api-key-env"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(malformed("it has a query or a fragment"));
        }
        let mut path = url.path().trim_end_matches('/').to_owned();
        if !path.ends_with("/v1") {
            path.push_str("/v1");
        }
        path.push('/');
        url.set_path(&path);
        Ok(Self(url))
    }

    /// `…/v1/` joined with `path`, which has no leading slash.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path()));
        url
    }

    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// The port, where the host is this machine's loopback.
    #[must_use]
    pub fn loopback_port(&self) -> Option<u16> {
        let loopback = match self.0.host()? {
            url::Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
        };
        loopback.then(|| self.0.port_or_known_default()).flatten()
    }

    /// Host, without an IPv6 address's brackets, and port.
    #[must_use]
    pub fn address(&self) -> Option<(String, u16)> {
        let host = match self.0.host()? {
            url::Host::Domain(name) => name.to_owned(),
            url::Host::Ipv4(ip) => ip.to_string(),
            url::Host::Ipv6(ip) => ip.to_string(),
        };
        Some((host, self.0.port_or_known_default()?))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}
