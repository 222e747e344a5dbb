//! Where a request comes from: the connection's other end, or, where that is a proxy that the operator trusts, the client
//! that the proxy names. A client that writes `X-Forwarded-For` itself is not believed: the list is read from its end,
//! and only past those that are trusted.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;

use super::wire::Peer;
use crate::config::Network;

/// A request's client; kept in a WebSocket's request for what comes over it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// Of a request; `None` where it came over no connection, as the command line's own.
    pub(super) fn of(request: &Request, trusted: &[Network]) -> Option<Self> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<Peer>>()?;
        Some(Self(behind(peer.address.ip(), request.headers(), trusted)))
    }
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let named = headers.get_all("x-forwarded-for").iter().rev();
    let hops = named.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for hop in hops.map(address_of) {
        let Some(hop) = hop else { break };
        client = hop;
        if !is_trusted(hop) {
            break;
        }
    }
    client
}

/// An address as proxies write it: bare, with a port, in brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip())).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", axum::http::HeaderValue::from_static(value));
        }
        behind(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(client("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("::1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(client("::1", &["203.0.113.9:1234"]), "203.0.113.9");
    }

    #[test]
    fn what_a_client_wrote_itself_is_not() {
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "203.0.113.9,10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }
}
