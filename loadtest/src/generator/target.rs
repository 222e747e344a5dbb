//! Where load may go: this machine and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, ensure};
use http::Uri;

/// A URL on a loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads an `http://` URL.
    ///
    /// # Errors
    /// It is no such URL, has no port, or does not name this machine by a loopback address.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        ensure!(uri.scheme_str() == Some("http"), "{url} must begin with http://");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let ip: IpAddr = match host {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().with_context(|| format!("{host} is no loopback address"))?,
        };
        ensure!(ip.is_loopback(), "load goes to loopback addresses only, and {ip} is none");
        let port = uri.port_u16().with_context(|| format!("{url} names no port"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address: SocketAddr::new(ip, port), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_target() {
        for good in ["http://127.0.0.1:80/v1", "http://localhost:8080", "http://[::1]:9/x?y=1", "http://127.9.9.9:1/"] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1:80/",
            "https://127.0.0.1:80/",
            "http://example.com:80/",
            "http://127.0.0.1/",
            "127.0.0.1:80",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
