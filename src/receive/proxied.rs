//! The PROXY protocol, versions 1 and 2: who is behind a connection that a load balancer has made, in front of the
//! sender's own octets. <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
//!
//! Asked for of those only that the configuration names as balancers, and of them always: whoever could leave it out, or
//! say it without being asked, could be anybody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, Interest, copy, sink};
use tokio::net::TcpStream;

/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with (section 2.1).
const WORD: &[u8; 6] = b"PROXY ";

/// Octets of the longest header of version 1, CRLF included (section 2.1).
const LINE_LEN_MAX: usize = 107;

/// Octets of a header of version 2 before its addresses: signature, command, family, length.
const FIXED_LEN: usize = 16;

/// Octets that are looked at: a whole line, or the longest addresses of version 2 (unix, 216). What follows these is skipped.
const LOOK_LEN: usize = 256;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who has connected to the balancer; `None` where the connection is the balancer's own (`LOCAL`: it asks whether
    /// we are well) or it does not know (`UNKNOWN`).
    pub sender: Option<IpAddr>,
    /// Octets of the whole header, which is at the front of what it was decoded from.
    pub len: usize,
}

/// Why what a connection begins with is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It begins with something else.
    #[error("it does not begin with a header of the PROXY protocol")]
    Missing,
    /// It begins as one, and goes on as none.
    #[error("its header of the PROXY protocol is malformed")]
    Malformed,
}

/// Decodes the header at the front of `octets`; `None` while that is too little to tell.
///
/// # Errors
/// When no octets that may follow make a header of it.
pub fn decode(octets: &[u8]) -> Result<Option<Header>, HeaderError> {
    let begins = |with: &[u8]| octets.iter().zip(with).all(|(octet, with)| octet == with);
    if begins(SIGNATURE) {
        binary(octets)
    } else if begins(WORD) {
        line(octets)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Version 2, whose signature is there as far as `octets` go.
fn binary(octets: &[u8]) -> Result<Option<Header>, HeaderError> {
    let Some((fixed, rest)) = octets.split_first_chunk::<FIXED_LEN>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let is_known = matches!(command, 0x20 | 0x21) && family >> 4 <= 3 && family & 0xf <= 2;
    // Source and destination with their ports; unix sockets have names.
    let needed = match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let is_local = command == 0x20;
    if !is_known || (!is_local && len < needed) {
        return Err(HeaderError::Malformed);
    }
    let sender = match family >> 4 {
        _ if is_local => None,
        1 => match rest.first_chunk::<4>() {
            Some(octets) => Some(IpAddr::V4(Ipv4Addr::from(*octets))),
            None => return Ok(None),
        },
        2 => match rest.first_chunk::<16>() {
            Some(octets) => Some(IpAddr::V6(Ipv6Addr::from(*octets))),
            None => return Ok(None),
        },
        _ => None,
    };
    Ok(Some(Header { sender: sender.map(|sender| sender.to_canonical()), len: FIXED_LEN + len }))
}

/// Version 1, whose first word is there as far as `octets` go.
fn line(octets: &[u8]) -> Result<Option<Header>, HeaderError> {
    let front = octets.get(..LINE_LEN_MAX).unwrap_or(octets);
    let Some(end) = front.windows(2).position(|pair| pair == b"\r\n") else {
        return if octets.len() < LINE_LEN_MAX { Ok(None) } else { Err(HeaderError::Malformed) };
    };
    let words = front.get(WORD.len()..end).and_then(|words| std::str::from_utf8(words).ok());
    let words: Vec<&str> = words.ok_or(HeaderError::Malformed)?.split(' ').collect();
    let sender = match *words.as_slice() {
        ["UNKNOWN", ..] => None,
        ["TCP4", from, to, from_port, to_port] => Some(ends::<Ipv4Addr>([from, to], [from_port, to_port])?.into()),
        ["TCP6", from, to, from_port, to_port] => Some(ends::<Ipv6Addr>([from, to], [from_port, to_port])?.into()),
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Some(Header { sender: sender.map(|sender: IpAddr| sender.to_canonical()), len: end + 2 }))
}

/// The first of two addresses, where both are, and their ports.
fn ends<A: std::str::FromStr>([from, to]: [&str; 2], ports: [&str; 2]) -> Result<A, HeaderError> {
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match (from.parse(), to.parse::<A>()) {
        (Ok(from), Ok(_)) if ports.into_iter().all(is_port) => Ok(from),
        _ => Err(HeaderError::Malformed),
    }
}

/// Takes the header from the front of a connection, and nothing of what is behind it. `None`: the peer has closed the
/// connection without a word, as one does that only looks whether somebody listens.
///
/// # Errors
/// Those of the socket; [`HeaderError`] as `InvalidData`.
pub(super) async fn introduction(tcp: &mut TcpStream) -> io::Result<Option<Header>> {
    // Tokio's own peek would come back at once with the same half of a header, for as long as there is no other half.
    let socket = std::net::TcpStream::from(tcp.as_fd().try_clone_to_owned()?);
    let look = || {
        let mut octets = [0; LOOK_LEN];
        let len = socket.peek(&mut octets)?;
        match decode(octets.get(..len).unwrap_or_default()) {
            _ if len == 0 => Ok(None),
            Ok(Some(header)) => Ok(Some(header)),
            // Woken when more has come.
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    };
    let header = tcp.async_io(Interest::READABLE, look).await?;
    if let Some(header) = header {
        copy(&mut tcp.take(header.len as u64), &mut sink()).await?;
    }
    Ok(header)
}

/// For fuzzing: whatever is decoded is so of any longer beginning as well, and of no shorter one otherwise.
///
/// # Panics
/// Where that does not hold.
#[doc(hidden)]
pub fn fuzz(octets: &[u8]) {
    let whole = decode(octets);
    for len in 0..octets.len() {
        let part = decode(octets.get(..len).unwrap_or_default());
        assert!(part == Ok(None) || part == whole, "{part:?} of {len} octets, {whole:?} of all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, body].concat()
    }

    fn sender(octets: &[u8]) -> Option<String> {
        let header = decode(octets).unwrap().expect("a whole header");
        assert_eq!(header.len, octets.len());
        header.sender.map(|sender| sender.to_string())
    }

    #[test]
    fn a_line_names_the_sender_or_says_that_it_is_unknown() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 40000 514\r\n", Some("192.0.2.7")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 40000 514\r\n", Some("2001:db8::7")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 40000 514\r\n", Some("192.0.2.7")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        ] {
            assert_eq!(sender(line.as_bytes()).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_binary_header_names_the_sender_whatever_else_it_brings() {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 2, 2];
        assert_eq!(sender(&v2(0x21, 0x11, &v4)).as_deref(), Some("192.0.2.7"));
        assert_eq!(sender(&v2(0x21, 0x11, &[&v4[..], &[4; 4000]].concat())).as_deref(), Some("192.0.2.7"));
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]; 2].concat();
        assert_eq!(sender(&v2(0x21, 0x21, &[&v6[..], &[0; 4]].concat())).as_deref(), Some("2001:db8::7"));
        assert_eq!(sender(&v2(0x20, 0x00, &[])), None);
        assert_eq!(sender(&v2(0x20, 0x11, &v4)), None);
        assert_eq!(sender(&v2(0x21, 0x00, &[])), None);
        assert_eq!(sender(&v2(0x21, 0x31, &[b'x'; 216])), None);
    }

    #[test]
    fn what_is_no_header_is_told_from_a_beginning_of_one() {
        for octets in
            [&b"<13>a message\n"[..], b"12 <13>message", b"\r\n\r\n\0\r\nQUIT?", b"PROXYTCP4", b"\x16\x03\x01\x02\0"]
        {
            assert_eq!(decode(octets), Err(HeaderError::Missing), "{octets:?}");
        }
        for octets in [
            &b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n"[..],
            b"PROXY TCP4 2001:db8::7 2001:db8::1 40000 514\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 65536\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 +4000 514\r\n",
            b"PROXY  TCP4 192.0.2.7 198.51.100.1 40000 514\r\n",
            b"PROXY UDP4 192.0.2.7 198.51.100.1 40000 514\r\n",
            b"PROXY \xff\r\n",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x13, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
        ] {
            assert_eq!(decode(octets), Err(HeaderError::Malformed), "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_decoded_alike_however_many_of_them_are_there(
            front in prop_oneof![
                Just(b"".to_vec()), Just(b"PROXY ".to_vec()), Just(b"PROXY TCP4 192.0.2.7 ".to_vec()),
                Just(SIGNATURE.to_vec()), Just(v2(0x21, 0x11, &[])), Just(v2(0x20, 0x21, &[])),
            ],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            fuzz(&[front, rest].concat());
        }

        #[test]
        fn what_a_balancer_writes_is_read(from: IpAddr, to: IpAddr, port: u16, rest in "[ -~]{0,40}") {
            prop_assume!(from.is_ipv4() == to.is_ipv4());
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {from} {to} {port} 514\r\n");
            let header = Header { sender: Some(from.to_canonical()), len: line.len() };
            prop_assert_eq!(decode(format!("{line}{rest}").as_bytes()), Ok(Some(header)));
        }
    }
}
