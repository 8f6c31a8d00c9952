//! RELP with the programs that speak it: our end of an output against a real imrelp, our end of an input against a real
//! omrelp, over the smallest blocking sockets.
//!
//! Where rsyslogd or its module is not installed, a test says so and checks nothing.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "support/harness.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use forebay::relp::client::{self, Client};
use forebay::relp::frame::{Command, Encoder};
use forebay::relp::server::{self, Server};

use support::installed;
use support::rsyslogd::{Rsyslogd, has_module};
use support::waiting::{PATIENCE, eventually};

/// Messages to imrelp.
const MESSAGES: usize = 10_000;

/// Prints what was received and nothing else.
const AS_RECEIVED: &str = "template(name=\"as_received\" type=\"string\" string=\"%rawmsg%\\n\")\n";

/// rsyslogd, where it has this module.
fn rsyslogd_with(module: &str) -> Option<PathBuf> {
    installed("rsyslogd").filter(|_| has_module(module))
}

fn text(number: usize) -> String {
    // DATALEN of two to four digits, and some LF inside.
    let filler = "x".repeat(number * 7 % 2_000);
    let filler = if number % 10 == 3 { format!("\n{filler}") } else { filler };
    format!("<13>Nov 22 10:00:00 wheel app[9]: the bucket {number} is full {filler}")
}

/// A real imrelp that writes what it gets to the file `out`, and a connection to it.
fn imrelp(executable: &std::path::Path) -> (Rsyslogd, TcpStream) {
    let rsyslogd = Rsyslogd::start(
        executable,
        &format!(
            "module(load=\"imrelp\")\n{AS_RECEIVED}input(type=\"imrelp\" port=\"0\" address=\"127.0.0.1\")\n\
             action(type=\"omfile\" file=\"DIRECTORY/out\" template=\"as_received\")\n"
        ),
    );
    let stream = TcpStream::connect(("127.0.0.1", rsyslogd.listening_port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (rsyslogd, stream)
}

/// Reads once; the events of what came. `None` at the stream's end.
fn client_events(client: &mut Client, stream: &mut TcpStream) -> Option<Vec<client::Event>> {
    let mut buffer = [0; 4096];
    let len = stream.read(&mut buffer).unwrap();
    let (mut input, mut events) = (&buffer[..len], Vec::new());
    while let Some(event) = client.next_event(&mut input).unwrap() {
        events.push(event);
    }
    (len > 0).then_some(events)
}

#[test]
fn a_real_imrelp_takes_and_acknowledges_every_message() {
    let Some(executable) = rsyslogd_with("imrelp") else { return };
    let (rsyslogd, mut stream) = imrelp(&executable);
    let (mut client, mut encoder, mut out) = (Client::new(300), Encoder::new(), Vec::new());
    client.open(&mut out);
    let mut next = 0;
    while client.acknowledged() < MESSAGES as u64 {
        while next < MESSAGES
            && let Some(txnr) = client.next_txnr()
        {
            let mark = encoder.begin(txnr, Command::Syslog, &mut out);
            out.extend_from_slice(text(next).as_bytes());
            encoder.end(mark, &mut out);
            next += 1;
        }
        stream.write_all(&out).unwrap();
        out.clear();
        for event in client_events(&mut client, &mut stream).expect("more answers") {
            assert!(
                matches!(&event, client::Event::Opened { software } if software.starts_with("librelp,")),
                "{event:?}"
            );
        }
    }
    assert_eq!((client.sent(), client.outstanding()), (MESSAGES as u64, 0));
    client.close(&mut out);
    stream.write_all(&out).unwrap();
    let events: Vec<client::Event> = std::iter::from_fn(|| client_events(&mut client, &mut stream)).flatten().collect();
    assert_eq!(events, [client::Event::Closed, client::Event::ServerClosing]);

    let expected: Vec<String> = (0..MESSAGES).map(|number| text(number).replace('\n', "#012")).collect();
    let lines = eventually("all to be in the file", || {
        let lines = rsyslogd.lines("out");
        if lines.len() >= MESSAGES { Ok(lines) } else { Err(format!("{} lines", lines.len())) }
    });
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), MESSAGES);
}

/// An input's end of one connection.
struct Input {
    server: Server,
    stream: TcpStream,
    /// All messages so far, with their numbers.
    messages: Vec<(u32, String)>,
    /// The number of `close`, once it came.
    close: Option<u32>,
}

impl Input {
    fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let stream = eventually("omrelp to connect", || listener.accept().map_err(|error| error.to_string())).0;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { server: Server::new(64 << 10), stream, messages: Vec::new(), close: None }
    }

    /// Reads once and answers the offers; whether anything came.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let len = self.stream.read(&mut buffer).unwrap();
        let (mut input, mut out) = (&buffer[..len], Vec::new());
        while let Some(event) = self.server.next_event(&mut input, &mut out).unwrap() {
            match event {
                server::Event::Opened { software } => assert!(software.starts_with("librelp,"), "{software}"),
                server::Event::Message { txnr, frame } => {
                    self.messages.push((txnr, String::from_utf8(frame.bytes.to_vec()).unwrap()));
                }
                server::Event::Close { txnr } => self.close = Some(txnr),
                server::Event::Ignored { txnr } => panic!("ignored {txnr}"),
            }
        }
        self.stream.write_all(&out).unwrap();
        len > 0
    }

    fn read_until(&mut self, count: usize) {
        while self.messages.len() < count {
            assert!(self.read(), "the end after {} of {count}", self.messages.len());
        }
    }

    fn acknowledge(&mut self, txnrs: impl Iterator<Item = u32>) {
        let mut out = Vec::new();
        txnrs.for_each(|txnr| server::acknowledge(txnr, &mut out));
        self.stream.write_all(&out).unwrap();
    }

    fn texts(&self) -> Vec<&str> {
        self.messages.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// librelp's window (`RELP_DFLT_WINDOW_SIZE`).
const WINDOW: usize = 128;

#[test]
fn a_real_omrelp_sends_again_what_was_not_acknowledged_and_takes_answers_in_any_order() {
    let Some(executable) = rsyslogd_with("omrelp") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let action = format!(
        "action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{port}\" template=\"sent\" action.resumeInterval=\"1\" \
         action.resumeRetryCount=\"-1\")"
    );
    let global = "module(load=\"omrelp\")\ntemplate(name=\"sent\" type=\"string\" string=\"%msg:2:$%\")\n";
    let expected: Vec<String> = (0..400).map(|number| format!("the bucket {number} is full")).collect();
    let messages: Vec<String> = expected.iter().map(|text| format!("<13>Nov 22 10:00:00 wheel[9]: {text}")).collect();
    let mut rsyslogd = Rsyslogd::sending(&executable, global, &action, &messages);

    let mut first = Input::accept(&listener);
    first.read_until(WINDOW);
    assert_eq!(first.texts(), expected[..WINDOW]);
    // Each second one of the first half, the last one first: as many more come, so that they were all understood.
    let settled: Vec<u32> = first.messages.iter().take(WINDOW / 2).step_by(2).map(|(txnr, _)| *txnr).collect();
    first.acknowledge(settled.iter().rev().copied());
    let sent = WINDOW + settled.len();
    first.read_until(sent);
    assert_eq!(first.texts(), expected[..sent]);
    let unsettled: Vec<&str> =
        first.messages.iter().filter(|(txnr, _)| !settled.contains(txnr)).map(|(_, text)| text.as_str()).collect();
    assert_eq!(unsettled.len(), WINDOW);
    drop(first.stream);

    let mut second = Input::accept(&listener);
    let again: Vec<&str> = unsettled.into_iter().chain(expected[sent..].iter().map(String::as_str)).collect();
    let mut settled = 0;
    while second.messages.len() < again.len() {
        second.read_until(second.messages.len() + 1);
        let new: Vec<u32> = second.messages[settled..].iter().map(|(txnr, _)| *txnr).collect();
        second.acknowledge(new.iter().rev().copied());
        settled = second.messages.len();
    }
    assert_eq!(second.texts(), again);

    rsyslogd.terminate();
    while second.close.is_none() {
        assert!(second.read(), "the end without close");
    }
    let mut out = Vec::new();
    server::closed(second.close.unwrap(), &mut out);
    second.stream.write_all(&out).unwrap();
    rsyslogd.ended();
    assert_eq!(second.texts(), again, "nothing twice");
}
