//! Networks in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network such as `10.0.0.0/8` or `2001:db8::/32`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor one with a prefix length.
    #[error("is not a network such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7")]
    Form,
    /// Addresses below the prefix: a typing error more often than not.
    #[error("has bits beyond its prefix; did you mean {0}?")]
    Bits(Network),
    /// An IPv4 network in the clothes of IPv6.
    #[error("is an IPv4 network written as IPv6; write it as IPv4")]
    Mapped,
}

impl Network {
    /// Whether the address is in the network. An IPv4 address is itself also when a socket of IPv6 names it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.base.is_ipv4() && masked(ip, self.prefix) == self.base
    }

    /// Whether every address of a family is in it.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match ip {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()),
        IpAddr::V6(ip) => {
            IpAddr::V6((ip.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let base: IpAddr = address.parse().ok().ok_or(NetworkError::Form)?;
        if base.to_canonical() != base {
            return Err(NetworkError::Mapped);
        }
        let widest = if base.is_ipv4() { 32 } else { 128 };
        let digits =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u8>().ok())?;
        let prefix =
            prefix.map_or(Some(widest), digits).filter(|p| *p <= widest).ok_or(NetworkError::Form)?;
        let network = Self { base: masked(base, prefix), prefix };
        if network.base == base { Ok(network) } else { Err(NetworkError::Bits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Result<Network, NetworkError> {
        text.parse()
    }

    #[test]
    fn members_and_strangers() {
        for (text, member, stranger) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.6/31", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1/128", "::1", "::2"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "::1", "8.8.8.8"),
        ] {
            let parsed = network(text).unwrap();
            assert!(parsed.contains(member.parse().unwrap()), "{text} {member}");
            assert!(!parsed.contains(stranger.parse().unwrap()), "{text} {stranger}");
            assert_eq!(network(&parsed.to_string()), Ok(parsed));
        }
        assert!(
            network("0.0.0.0/0").unwrap().is_everything() && !network("0.0.0.0/1").unwrap().is_everything()
        );
    }

    #[test]
    fn texts_that_are_none() {
        for text in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "localhost",
            "1.2.3.4:80",
        ] {
            assert_eq!(network(text), Err(NetworkError::Form), "{text}");
        }
        let said = network("10.1.2.3/8").unwrap_err().to_string();
        assert_eq!(said, "has bits beyond its prefix; did you mean 10.0.0.0/8?");
        assert_eq!(network("::ffff:10.0.0.0/104"), Err(NetworkError::Mapped));
    }
}
