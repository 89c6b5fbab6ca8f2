//! The server's base URL.

use url::Url;

use super::PlanError;
use crate::secrets::without_tokens;

/// The path of an API function, at the end of a URL.
const PLACES: [&str; 4] = ["/chat/completions", "/completions", "/models", "/responses"];

/// A server's base URL with a final slash. It is `/v1/`, unless the user gave the URL of an API function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Parses a URL with or without `/v1` and with or without a final slash. The path of an API function
    /// (`…/v1/chat/completions`) is cut off. A bare `host:port` means http.
    ///
    /// # Errors
    /// The text is no http(s) URL with a host, or it has a user, a query or a fragment, or its host is a number. A user
    /// who writes `8000` means a port, and the address with that number is another's.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let malformed = |why: &str| PlanError::Endpoint { url: without_tokens(text), why: why.to_owned() };
        let trimmed = text.trim();
        let lower = trimmed.to_ascii_lowercase();
        if ["http:", "https:"].iter().any(|s| lower.starts_with(s)) && !trimmed.contains("://") {
            return Err(malformed("its scheme is not followed by //"));
        }
        let with_scheme =
            if trimmed.contains("://") { trimmed.to_owned() } else { format!("http://{trimmed}") };
        if let Some(why) = no_host(&with_scheme) {
            return Err(malformed(&why));
        }
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
        let given = url.path().trim_end_matches('/');
        let mut path = match PLACES.iter().find_map(|place| given.strip_suffix(place)) {
            // The URL of an API function shows where all of them are.
            Some(base) => base.trim_end_matches('/').to_owned(),
            None if given.ends_with("/v1") => given.to_owned(),
            None => format!("{given}/v1"),
        };
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

    /// The port, if the host is this machine's loopback.
    #[must_use]
    pub fn loopback_port(&self) -> Option<u16> {
        let loopback = match self.0.host()? {
            url::Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
        };
        loopback.then(|| self.0.port_or_known_default()).flatten()
    }

    /// The host, without an IPv6 address's brackets, and the port.
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

/// Why nobody means this host: URLs take `8000` for 0.0.31.64 and `127.1` for 127.0.0.1.
fn no_host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if authority.starts_with('[') {
        return None;
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
    if port.is_some_and(|port| port.contains(':')) {
        return Some("an IPv6 address is written in brackets, as in http://[::1]:8000".to_owned());
    }
    let number = host.parse::<u64>().is_ok();
    match (host.is_empty(), port) {
        (true, Some(port)) if port.parse::<u16>().is_ok() => {
            return Some(format!("it has no host; this machine's is http://127.0.0.1:{port}"));
        }
        (false, None) if number => {
            return Some(format!("{host} is a port and no host; this machine's is http://127.0.0.1:{host}"));
        }
        _ => {}
    }
    let numeric = host.split('.').all(|part| {
        part.parse::<u64>().is_ok()
            || part.strip_prefix("0x").is_some_and(|x| u64::from_str_radix(x, 16).is_ok())
    });
    (numeric && host.parse::<std::net::Ipv4Addr>().is_err())
        .then(|| format!("'{host}' is a number and no address; write all four parts of it"))
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}
