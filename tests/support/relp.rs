//! A RELP server that behaves as a test says: each connection has a thread and a number, and is handed to the test's function.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay::relp::frame::{Command, encode};
use forebay::relp::server::{self, Event, Server};

use super::collector::number_of;
use super::waiting::{PATIENCE, eventually};

/// A running server; dropping it ends it.
pub struct RelpServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Numbers of the messages that it acknowledged, in that order.
    pub taken: Arc<Mutex<Vec<u64>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One of its connections.
pub struct Session {
    /// What is read and written.
    pub stream: TcpStream,
    server: Server,
    input: Vec<u8>,
    used: usize,
    taken: Arc<Mutex<Vec<u64>>>,
    /// The relay has said `close`, and was answered.
    pub is_closed: bool,
}

/// A message, its number in the connection and in the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub txnr: u32,
    pub number: u64,
}

impl RelpServer {
    /// Hands each connection, numbered from 0, to `serve`, before its offers are answered.
    pub fn start(serve: impl Fn(usize, Session) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (over, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_over, takes, serve) = (Arc::clone(&over), Arc::clone(&taken), Arc::new(serve));
        let thread = thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if is_over.load(Relaxed) {
                    return;
                }
                let (serve, session) = (Arc::clone(&serve), Session::new(stream.unwrap(), Arc::clone(&takes)));
                thread::spawn(move || serve(number, session));
            }
        });
        Self { address, taken, over, thread: Some(thread) }
    }

    /// The numbers that it acknowledged, once there are `count`; fails when there are more.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<u64> {
        let numbers = eventually(&format!("{count} messages to be taken"), || {
            let taken = self.taken.lock().unwrap().clone();
            if taken.len() >= count { Ok(taken) } else { Err(format!("{} are", taken.len())) }
        });
        assert_eq!(numbers.len(), count);
        numbers
    }
}

impl Drop for RelpServer {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Session {
    fn new(stream: TcpStream, taken: Arc<Mutex<Vec<u64>>>) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, server: Server::new(1 << 20), input: Vec::new(), used: 0, taken, is_closed: false }
    }

    /// Sends octets as they are; a relay that has gone is no fault here.
    pub fn say(&mut self, octets: &[u8]) {
        drop(self.stream.write_all(octets));
    }

    /// Reads the relay's `open` and answers with that instead.
    pub fn answer_open(&mut self, data: &[u8]) {
        let mut octets = Vec::new();
        while !octets.ends_with(b"commands=syslog\n") {
            let mut octet = [0];
            self.stream.read_exact(&mut octet).unwrap();
            octets.extend_from_slice(&octet);
        }
        let mut answer = Vec::new();
        encode(1, Command::Rsp, data, &mut answer);
        self.say(&answer);
    }

    /// The next message; `None` at the end of the connection, or behind `close`.
    pub fn next(&mut self) -> Option<Message> {
        let mut buffer = [0; 4096];
        loop {
            let mut out = Vec::new();
            let mut input = &self.input[self.used..];
            let event = self.server.next_event(&mut input, &mut out).expect("RELP");
            let found = match &event {
                Some(Event::Message { txnr, frame }) => {
                    Some(Message { txnr: *txnr, number: number_of(frame.bytes).expect("a numbered message") })
                }
                Some(Event::Close { txnr }) => {
                    self.is_closed = true;
                    server::closed(*txnr, &mut out);
                    None
                }
                _ => None,
            };
            let is_empty = event.is_none();
            self.used = self.input.len() - input.len();
            self.say(&out);
            if found.is_some() || self.is_closed {
                return found;
            }
            if is_empty {
                self.input.clear();
                self.used = 0;
                match self.stream.read(&mut buffer) {
                    Ok(count) if count > 0 => self.input.extend_from_slice(&buffer[..count]),
                    _ => return None,
                }
            }
        }
    }

    /// Whether nothing more comes for `time`.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        assert_eq!(self.used, self.input.len(), "all that was read is used");
        self.stream.set_read_timeout(Some(time)).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        peeked.is_err_and(|error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
    }

    /// Takes a message for good.
    pub fn take(&mut self, message: Message) {
        self.taken.lock().unwrap().push(message.number);
        let mut out = Vec::new();
        server::acknowledge(message.txnr, &mut out);
        self.say(&out);
    }

    /// Refuses one.
    pub fn refuse(&mut self, message: Message, words: &str) {
        let mut out = Vec::new();
        encode(message.txnr, Command::Rsp, words.as_bytes(), &mut out);
        self.say(&out);
    }

    /// Announces the end.
    pub fn announce_close(&mut self) {
        let mut out = Vec::new();
        server::serverclose(&mut out);
        self.say(&out);
    }

    /// Closes our side and reads the rest unseen: a close with octets unread would take away what was said last.
    pub fn finish(mut self) {
        drop(self.stream.shutdown(std::net::Shutdown::Write));
        drop(self.stream.read_to_end(&mut Vec::new()));
    }

    /// Takes everything to the end.
    pub fn take_all(&mut self) {
        while let Some(message) = self.next() {
            self.take(message);
        }
    }
}
