//! What holds for any octets in any reads, for either end: for the fuzzer and for the property tests. Panics where it does
//! not hold.

use super::client::{self, Client, ClientError};
use super::frame::{Frame, decode, encode};
use super::server::{self, Server, ServerError};

/// What a decoder keeps at rest, and what allocators round up. Anything else that is owned was received.
const SLACK: usize = 1024;

/// For fuzzing: which end, the largest message or window, a count of reads, their lengths (odd: kept first), then the
/// stream.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let [end, max, reads, rest @ ..] = data else { return };
    let Some((lengths, stream)) = rest.split_at_checked(usize::from(reads % 16)) else { return };
    let mut left = stream;
    let mut pieces: Vec<(&[u8], bool)> = Vec::new();
    for length in lengths {
        let (piece, rest) = left.split_at(usize::from(length / 2).min(left.len()));
        pieces.push((piece, length % 2 == 1));
        left = rest;
    }
    pieces.push((left, false));
    frames_hold(stream);
    if end % 2 == 0 {
        server_holds(usize::from(*max).max(1), &pieces);
    } else {
        client_holds(u32::from(*max), &pieces);
    }
}

/// Frames are found or not, and written again are the same.
fn frames_hold(mut stream: &[u8]) {
    while let Ok(Some((frame, taken))) = decode(stream, stream.len()) {
        assert!((4..=stream.len()).contains(&taken), "{taken} of {}", stream.len());
        if let Some(command) = frame.command {
            let mut out = b"in front".to_vec();
            encode(frame.txnr, command, frame.data, &mut out);
            let written = out.strip_prefix(b"in front").unwrap_or_default();
            assert_eq!(decode(written, frame.data.len()), Ok(Some((frame, written.len()))));
        }
        stream = stream.get(taken..).unwrap_or_default();
    }
}

/// An event of the server's end, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message { txnr: u32, octets: Vec<u8>, is_cut: bool },
    Other(String),
}

/// The server's end sees the same, and says the same, however the stream is cut.
pub(super) fn server_holds(max: usize, reads: &[(&[u8], bool)]) {
    let stream: Vec<u8> = reads.iter().flat_map(|(read, _)| *read).copied().collect();
    let expected = served(max, &[(&stream, false)]);
    let octets: Vec<(&[u8], bool)> = stream.chunks(1).map(|octet| (octet, false)).collect();
    let whole: Vec<(&[u8], bool)> = reads.iter().map(|(read, _)| (*read, false)).collect();
    for (how, reads) in [("in reads", &whole[..]), ("octet by octet", &octets), ("with pauses", reads)] {
        let found = served(max, reads);
        assert_eq!(found, expected, "{how}");
    }
    let (seen, said, _) = expected;
    for seen in seen {
        if let Seen::Message { octets, is_cut, .. } = seen {
            assert!(octets.len() <= max && (!is_cut || octets.len() + 3 >= max), "{} octets of {max}", octets.len());
        }
    }
    let mut said = &said[..];
    while !said.is_empty() {
        let found = decode(said, 1024);
        assert!(matches!(found, Ok(Some((Frame { command: Some(_), .. }, _)))), "{found:?}");
        said = said.get(found.ok().flatten().map_or(0, |(_, taken)| taken)..).unwrap_or_default();
    }
}

fn served(max: usize, reads: &[(&[u8], bool)]) -> (Vec<Seen>, Vec<u8>, Result<(), ServerError>) {
    let (mut seen, mut said) = (Vec::new(), Vec::new());
    let mut end = Server::new(max);
    let mut received = 0;
    for (read, is_kept) in reads {
        let mut input = *read;
        received += input.len();
        if *is_kept {
            end.keep(input);
            continue;
        }
        loop {
            match end.next_event(&mut input, &mut said) {
                Ok(None) => break,
                Err(error) => return (seen, said, Err(error)),
                Ok(Some(server::Event::Message { txnr, frame })) => {
                    server::acknowledge(txnr, &mut said);
                    seen.push(Seen::Message { txnr, octets: frame.bytes.to_vec(), is_cut: frame.flaw.is_some() });
                }
                Ok(Some(server::Event::Close { txnr })) => {
                    server::closed(txnr, &mut said);
                    seen.push(Seen::Other("close".to_owned()));
                }
                Ok(Some(event)) => seen.push(Seen::Other(format!("{event:?}"))),
            }
        }
        assert!(input.is_empty());
        assert!(end.owned() <= 2 * received + SLACK, "{} octets owned", end.owned());
    }
    (seen, said, Ok(()))
}

/// The same of the client's end, which sends as much as its window allows as soon as it may.
pub(super) fn client_holds(window: u32, reads: &[(&[u8], bool)]) {
    let stream: Vec<u8> = reads.iter().flat_map(|(read, _)| *read).copied().collect();
    let expected = asked(window, &[&stream]);
    let whole: Vec<&[u8]> = reads.iter().map(|(read, _)| *read).collect();
    let octets: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(asked(window, &whole), expected, "in reads");
    assert_eq!(asked(window, &octets), expected, "octet by octet");
}

fn asked(window: u32, reads: &[&[u8]]) -> (Vec<client::Event>, u64, Result<(), ClientError>) {
    let mut seen = Vec::new();
    let mut end = Client::new(window);
    end.open(&mut Vec::new());
    let total: usize = reads.iter().map(|read| read.len()).sum();
    for read in reads {
        let mut input = *read;
        loop {
            let before = end.acknowledged();
            let event = end.next_event(&mut input);
            assert!((before..=end.sent()).contains(&end.acknowledged()));
            match event {
                Ok(None) => break,
                Err(error) => return (seen, end.acknowledged(), Err(error)),
                Ok(Some(event)) => {
                    if matches!(event, client::Event::Opened { .. }) {
                        while end.next_txnr().is_some() {}
                        assert_eq!(end.outstanding(), u64::from(window.max(1)));
                    }
                    if let client::Event::Refused { position, code, ref text } = event {
                        assert!(code != 200 && !text.contains(char::is_control), "{code} {text:?}");
                        assert!((end.acknowledged()..end.sent()).contains(&position));
                        if position % 2 == 0 {
                            end.pass(position);
                        }
                    }
                    seen.push(event);
                }
            }
        }
        assert!(input.is_empty());
        assert!(end.owned() <= 2 * (total + window as usize) + SLACK, "{} octets owned", end.owned());
    }
    (seen, end.acknowledged(), Ok(()))
}
