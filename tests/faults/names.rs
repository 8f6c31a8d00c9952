//! A name server for one name: says what it is told to say (RFC 1035).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::namespaces::Namespace;

/// The name.
pub const NAME: &str = "collector.test";
/// How long an answer may be kept, seconds.
const TTL: u32 = 1;
const HEADER: usize = 12;
/// QTYPE A.
const A: [u8; 2] = [0, 1];
/// How often it looks whether to end.
const LOOK: Duration = Duration::from_millis(50);

/// Answers until it is dropped.
pub struct Names {
    address: Arc<AtomicU32>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    /// Listens at `at` inside; the name leads to `address`.
    pub fn start(inside: &Namespace, at: Ipv4Addr, address: Ipv4Addr) -> Self {
        let socket = inside.inside(|| UdpSocket::bind(SocketAddr::from((at, 53))).unwrap());
        socket.set_read_timeout(Some(LOOK)).unwrap();
        let (address, ends) = (Arc::new(AtomicU32::new(address.into())), Arc::new(AtomicBool::new(false)));
        let (asked, ended) = (Arc::clone(&address), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            let mut query = [0; 512];
            while !ended.load(Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut query)
                    && let Some(answer) = answer(&query[..length], asked.load(Relaxed).into())
                {
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Self { address, ends, thread: Some(thread) }
    }

    /// The name leads to `address` from now on.
    pub fn lead_to(&self, address: Ipv4Addr) {
        self.address.store(address.into(), Relaxed);
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// To a question for the name's A record this address; for any other record that there is none; for any other name that it
/// does not exist.
fn answer(query: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let labels = query.get(HEADER..)?;
    let name_end = labels.iter().position(|octet| *octet == 0)?;
    let question = labels.get(..name_end + 5)?;
    let mut wanted = Vec::new();
    for label in NAME.split('.') {
        wanted.push(label.len() as u8);
        wanted.extend_from_slice(label.as_bytes());
    }
    let is_ours = question[..name_end].eq_ignore_ascii_case(&wanted);
    let is_answered = is_ours && question[name_end + 1..name_end + 3] == A;
    // A response, authoritative, recursion desired and available; NXDOMAIN where the name is another.
    let flags = [0x85, if is_ours { 0x80 } else { 0x83 }];
    let mut answer = [&query[..2], &flags, &[0, 1, 0, u8::from(is_answered), 0, 0, 0, 0], question].concat();
    if is_answered {
        // The name as a pointer to the question's, type A, class IN.
        answer.extend_from_slice(&[0xc0, HEADER as u8, 0, 1, 0, 1]);
        answer.extend_from_slice(&TTL.to_be_bytes());
        answer.extend_from_slice(&[0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}

#[test]
fn the_name_server_knows_one_name() {
    let ask = |name: &[u8], kind: u8| {
        let query = [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, &[0, 0, kind, 0, 1]].concat();
        answer(&query, Ipv4Addr::new(192, 0, 2, 9)).unwrap()
    };
    let found = ask(b"\x09Collector\x04test", 1);
    assert!(found.ends_with(&[0, 0, 0, 1, 0, 4, 192, 0, 2, 9]), "{found:?}");
    assert_eq!((found[3] & 15, found[7]), (0, 1));
    let no_such_record = ask(b"\x09collector\x04test", 28);
    assert_eq!((no_such_record[3] & 15, no_such_record[7]), (0, 0));
    let no_such_name = ask(b"\x05other\x04test", 1);
    assert_eq!((no_such_name[3] & 15, no_such_name[7]), (3, 0));
    assert_eq!(answer(&[0; 11], Ipv4Addr::LOCALHOST), None);
}
