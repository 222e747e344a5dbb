//! Where load goes: this machine, and another one only where somebody said so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use anyhow::{Context, ensure};
use http::Uri;

/// A URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// As the `host` header names it.
    pub host: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// A path of the server at this address.
    pub fn of(address: SocketAddr, path: &str) -> Self {
        Self { address, host: address.to_string(), path: path.to_owned() }
    }

    /// Reads an `http://` URL of this machine.
    ///
    /// # Errors
    /// It is no such URL, has no port, or does not name this machine by a loopback address.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let (host, port, path) = parts(url)?;
        let ip: IpAddr = match host.as_str() {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().with_context(|| format!("{host} is no loopback address"))?,
        };
        ensure!(ip.is_loopback(), "load goes to loopback addresses only, and {ip} is none");
        let address = SocketAddr::new(ip, port);
        Ok(Self { address, host: address.to_string(), path })
    }

    /// Reads an `http://` URL of any host, whose name is looked up once: for who may load that host.
    ///
    /// # Errors
    /// It is no such URL, has no port, or its host is not known.
    pub fn anywhere(url: &str) -> anyhow::Result<Self> {
        let (host, port, path) = parts(url)?;
        let unknown = || format!("{host} is not known");
        let address = (host.as_str(), port).to_socket_addrs().with_context(unknown)?.next().with_context(unknown)?;
        Ok(Self { address, host: format!("{host}:{port}"), path })
    }
}

/// Host, port and path of a URL.
fn parts(url: &str) -> anyhow::Result<(String, u16, String)> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    ensure!(uri.scheme_str() == Some("http"), "{url} must begin with http://");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().with_context(|| format!("{url} names no port"))?;
    Ok((host, port, uri.path_and_query().map_or("/", |path| path.as_str()).to_owned()))
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

    #[test]
    fn another_host_is_a_target_for_who_says_so() {
        let target = Target::anywhere("http://192.0.2.7:8080/v1?x=y").unwrap();
        assert_eq!(
            (target.address, target.host.as_str(), target.path.as_str()),
            (([192, 0, 2, 7], 8080).into(), "192.0.2.7:8080", "/v1?x=y")
        );
        assert!(Target::anywhere("https://192.0.2.7:8080/").is_err());
    }
}
