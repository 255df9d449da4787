//! The header itself, versions 1 and 2. Nothing is allocated and nothing is kept: bytes in, verdict out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// First bytes of version 1.
const V1: &[u8] = b"PROXY ";
/// Longest line of version 1, its end included.
const V1_MAX: usize = 107;
/// First bytes of version 2: no text, and no TLS.
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Fixed part of version 2: signature, version and command, family, length of the rest.
const V2_FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// So far it could be a header: more bytes are needed.
    Incomplete,
    /// No header.
    Absent,
    /// A header.
    Header {
        /// Its length. Additions of version 2 may not have arrived yet: they say nothing to us, and are skipped.
        len: usize,
        /// The client, when the header names one that has an address. A proxy's own health check (LOCAL), UNKNOWN
        /// and Unix sockets have none.
        source: Option<SocketAddr>,
    },
}

/// What began like a header and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Version 1 without its end within 107 bytes.
    #[error("the PROXY line has no end within 107 bytes")]
    TooLong,
    /// A line that is not `PROXY TCP4|TCP6|UNKNOWN …`.
    #[error("the PROXY line is malformed")]
    Line,
    /// An address that is none of its family.
    #[error("an address of the PROXY header is malformed")]
    Address,
    /// A port that is no number from 0 to 65535.
    #[error("a port of the PROXY header is malformed")]
    Port,
    /// Neither LOCAL nor PROXY, or not version 2.
    #[error("version or command of the PROXY header is unknown")]
    Command,
    /// A family or transport that cannot lead to this connection.
    #[error("family or transport of the PROXY header does not fit")]
    Family,
    /// Too short for the addresses of its family.
    #[error("the PROXY header is too short for its addresses")]
    Length,
}

/// Looks at the first bytes of a connection. Needs at most 107 bytes for version 1 and 52 for version 2.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    match (begins(bytes, V1), begins(bytes, V2)) {
        (Some(true), _) => line(bytes),
        (_, Some(true)) => binary(bytes),
        (None, _) | (_, None) => Ok(Parsed::Incomplete),
        _ => Ok(Parsed::Absent),
    }
}

/// Whether `bytes` begin with `mark`; `None` when there are too few to say.
fn begins(bytes: &[u8], mark: &[u8]) -> Option<bool> {
    let common = bytes.len().min(mark.len());
    let same = bytes[..common] == mark[..common];
    if same && common < mark.len() { None } else { Some(same) }
}

/// `PROXY TCP4 source destination port port\r\n`.
fn line(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let seen = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= V1_MAX { Err(ProxyError::TooLong) } else { Ok(Parsed::Incomplete) };
    };
    let len = end + 2;
    let text = std::str::from_utf8(&seen[V1.len()..end]).ok().ok_or(ProxyError::Line)?;
    // What follows UNKNOWN is to be ignored.
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Parsed::Header { len, source: None });
    }
    let mut words = text.split(' ');
    let family = words.next().ok_or(ProxyError::Line)?;
    let mut address = || -> Result<IpAddr, ProxyError> {
        let word = words.next().ok_or(ProxyError::Line)?;
        let parsed = match family {
            "TCP4" => word.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
            "TCP6" => word.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            _ => return Err(ProxyError::Line),
        };
        parsed.ok_or(ProxyError::Address)
    };
    let (source, _destination) = (address()?, address()?);
    let mut port = || port(words.next().ok_or(ProxyError::Line)?);
    let (source_port, _destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(ProxyError::Line);
    }
    Ok(Parsed::Header { len, source: Some(SocketAddr::new(source.to_canonical(), source_port)) })
}

/// Digits alone, without a leading zero.
fn port(word: &str) -> Result<u16, ProxyError> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    if !digits || (word.len() > 1 && word.starts_with('0')) {
        return Err(ProxyError::Port);
    }
    word.parse().ok().ok_or(ProxyError::Port)
}

fn binary(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let len = V2_FIXED + length;
    match command {
        // The proxy speaks for itself; whatever follows is to be ignored.
        0x20 => return Ok(Parsed::Header { len, source: None }),
        0x21 => {}
        _ => return Err(ProxyError::Command),
    }
    let wanted = match family {
        // Not specified, or a Unix stream: somebody, without an address that means anything here.
        0x00 => return Ok(Parsed::Header { len, source: None }),
        0x31 if length >= 216 => return Ok(Parsed::Header { len, source: None }),
        0x11 => 12,
        0x21 => 36,
        0x31 => return Err(ProxyError::Length),
        _ => return Err(ProxyError::Family),
    };
    if length < wanted {
        return Err(ProxyError::Length);
    }
    let Some(addresses) = rest.get(..wanted) else { return Ok(Parsed::Incomplete) };
    let source = if let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses {
        SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))
    } else {
        let (ip, ports) = addresses.split_first_chunk::<16>().ok_or(ProxyError::Length)?;
        let port = u16::from_be_bytes([ports[16], ports[17]]);
        SocketAddr::new(IpAddr::from(*ip).to_canonical(), port)
    };
    Ok(Parsed::Header { len, source: Some(source) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[allow(clippy::unnecessary_wraps)] // what `parse` answers
    fn header(len: usize, source: &str) -> Result<Parsed, ProxyError> {
        Ok(Parsed::Header { len, source: Some(source.parse().unwrap()) })
    }

    #[allow(clippy::unnecessary_wraps)] // what `parse` answers
    fn nobody(len: usize) -> Result<Parsed, ProxyError> {
        Ok(Parsed::Header { len, source: None })
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2[..], &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc8, 0x22, 0x22, 0xb8];

    fn v6(source: &str) -> Vec<u8> {
        let source: Ipv6Addr = source.parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0xc8, 0x22, 0x22, 0xb8]].concat()
    }

    #[test]
    fn lines_of_version_1() {
        let tcp4 = b"PROXY TCP4 192.0.2.7 10.0.0.1 51234 8888\r\n";
        assert_eq!(parse(tcp4), header(tcp4.len(), "192.0.2.7:51234"));
        assert_eq!(parse(&[tcp4, &b"\x16\x03\x01"[..]].concat()), header(tcp4.len(), "192.0.2.7:51234"));
        let tcp6 = b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n";
        assert_eq!(parse(tcp6), header(tcp6.len(), "[2001:db8::7]:0"));
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n";
        assert_eq!(parse(mapped), header(mapped.len(), "192.0.2.7:1"), "one client has one address");
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), nobody(15));
        assert_eq!(parse(b"PROXY UNKNOWN what ever\r\n"), nobody(25));
        let longest = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat();
        assert_eq!((longest.len(), parse(&longest)), (V1_MAX, nobody(V1_MAX)));
    }

    #[test]
    fn lines_that_are_malformed() {
        for (line, error) in [
            ("PROXY \r\n", ProxyError::Line),
            ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::Line),
            ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::Line),
            ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::Line),
            ("PROXY UNKNOWNX\r\n", ProxyError::Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", ProxyError::Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", ProxyError::Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", ProxyError::Line),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n", ProxyError::Port),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::Address),
            ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 1.2.3.4  1 2\r\n", ProxyError::Address),
            ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", ProxyError::Address),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", ProxyError::Port),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", ProxyError::Port),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", ProxyError::Port),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n", ProxyError::Port),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line:?}");
        }
        assert_eq!(parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\xff\r\n"), Err(ProxyError::Line));
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(parse(&endless), Err(ProxyError::TooLong));
        assert_eq!(parse(&endless[..V1_MAX - 1]), Ok(Parsed::Incomplete));
    }

    #[test]
    fn headers_of_version_2() {
        assert_eq!(parse(&v2(0x21, 0x11, &V4)), header(28, "192.0.2.7:51234"));
        assert_eq!(parse(&v2(0x21, 0x21, &v6("2001:db8::7"))), header(52, "[2001:db8::7]:51234"));
        assert_eq!(parse(&v2(0x21, 0x21, &v6("::ffff:192.0.2.7"))), header(52, "192.0.2.7:51234"));
        // Additions say nothing to us; they need not even be there yet.
        let with_tlv = v2(0x21, 0x11, &[&V4[..], &[0xea, 0, 3, 1, 2, 3]].concat());
        assert_eq!(parse(&with_tlv), header(34, "192.0.2.7:51234"));
        assert_eq!(parse(&with_tlv[..28]), header(34, "192.0.2.7:51234"));
        for (command, family, rest) in
            [(0x20, 0x00, 0), (0x20, 0x11, 12), (0x20, 0xff, 3), (0x21, 0x00, 0), (0x21, 0x31, 216)]
        {
            assert_eq!(
                parse(&v2(command, family, &vec![0; rest])),
                nobody(16 + rest),
                "{command:x} {family:x}"
            );
        }
        let largest = v2(0x20, 0, &vec![0; 0xffff]);
        assert_eq!(parse(&largest), nobody(16 + 0xffff));
    }

    #[test]
    fn version_2_that_is_malformed() {
        for (command, family, rest, error) in [
            (0x22, 0x11, 12, ProxyError::Command),
            (0x11, 0x11, 12, ProxyError::Command),
            (0x31, 0x11, 12, ProxyError::Command),
            (0x21, 0x12, 12, ProxyError::Family),
            (0x21, 0x22, 36, ProxyError::Family),
            (0x21, 0x32, 216, ProxyError::Family),
            (0x21, 0x41, 12, ProxyError::Family),
            (0x21, 0x01, 12, ProxyError::Family),
            (0x21, 0x11, 11, ProxyError::Length),
            (0x21, 0x21, 35, ProxyError::Length),
            (0x21, 0x31, 215, ProxyError::Length),
        ] {
            let bytes = v2(command, family, &vec![0; rest]);
            assert_eq!(parse(&bytes), Err(error), "{command:x} {family:x} {rest}");
        }
    }

    #[test]
    fn what_is_no_header_is_known_by_its_first_bytes() {
        for text in [
            "\x16\x03\x01\x02\x00",
            "PRI * HTTP/2.0\r\n",
            "GET / HTTP/1.1\r\n",
            "proxy ",
            "\r\n\r\nx",
            "PROXYX",
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Parsed::Absent), "{text:?}");
        }
        for text in ["", "P", "PR", "PROXY", "PROXY ", "\r", "\r\n\r\n"] {
            assert_eq!(parse(text.as_bytes()), Ok(Parsed::Incomplete), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn addresses_come_out_as_they_went_in(
            source: SocketAddr, destination: SocketAddr, tail in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let (mut source, mut destination) = (source, destination);
            source.set_ip(source.ip().to_canonical());
            if source.is_ipv4() != destination.is_ipv4() {
                destination = source;
            }
            destination.set_ip(destination.ip().to_canonical());
            prop_assume!(source.is_ipv4() == destination.is_ipv4());
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!(
                "PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port()
            );
            // Scope and flow of an IPv6 address are not in the header.
            let plain = SocketAddr::new(source.ip(), source.port());
            let wanted = Ok(Parsed::Header { len: line.len(), source: Some(plain) });
            let bytes = [line.as_bytes(), &tail].concat();
            prop_assert_eq!(parse(&bytes), wanted);
            // However little has arrived, nothing else is said of it.
            for cut in 0..line.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Incomplete));
            }
        }

        #[test]
        fn more_bytes_never_change_a_verdict(
            mark in prop_oneof![Just(&b"PROXY TCP4 "[..]), Just(&V2[..]), Just(&b""[..])],
            tail in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let bytes = [mark, &tail].concat();
            let mut verdict = Ok(Parsed::Incomplete);
            for end in 0..=bytes.len() {
                let now = parse(&bytes[..end]);
                if verdict == Ok(Parsed::Incomplete) {
                    verdict = now;
                } else {
                    prop_assert_eq!(now, verdict);
                }
            }
        }
    }
}
