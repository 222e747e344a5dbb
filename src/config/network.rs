//! A network of addresses as operators write it: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether an address is one of it; an IPv4 address written as IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same_start(u128::from(u32::from(own)), u128::from(u32::from(other)), 32 - self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same_start(own.into(), other.into(), 128 - self.prefix),
            _ => false,
        }
    }
}

fn same_start(one: u128, other: u128, rest: u32) -> bool {
    one.checked_shr(rest) == other.checked_shr(rest)
}

/// Not a network.
#[derive(Debug, thiserror::Error)]
#[error("takes addresses and networks, such as 127.0.0.1 or 10.0.0.0/8, separated by commas")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.trim().parse().map_err(|_| NotANetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.trim().parse().map_err(|_| NotANetwork))?;
        if prefix > longest { Err(NotANetwork) } else { Ok(Self { address, prefix }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "::a00:1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), holds, "{network} {address}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0", "10.0.0.0/-1", "proxy.example"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
