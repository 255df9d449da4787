//! Addresses that a bundle is never fetched from: those of this link, where clouds keep credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services outside the link-local ranges: Alibaba, Azure, Oracle; and AWS over IPv6.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 1] = [Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)];
/// IPv4 addresses behind a translator (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Whether an address may be dialled.
pub(super) fn allowed(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => allowed_v4(v4),
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            if segments[..6] == NAT64 {
                let octets = v6.octets();
                return allowed_v4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]));
            }
            let link_local = segments[0] & 0xffc0 == 0xfe80;
            !(link_local || v6.is_unspecified() || v6.is_multicast() || METADATA_V6.contains(&v6))
        }
    }
}

fn allowed_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_link_local()
        || ip.octets()[0] == 0
        || ip.is_multicast()
        || ip.is_broadcast()
        || METADATA_V4.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_dialled() {
        for ip in ["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1", "2001:db8::1", "fd00::1", "64:ff9b::808:808"] {
            assert!(allowed(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(!allowed(ip.parse().unwrap()), "{ip}");
        }
    }
}
