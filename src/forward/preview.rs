//! One message as its output's forwarder writes it, for people who ask before anything is sent: rendered and framed by the same
//! code, with intake keys masked.

use jiff::tz::TimeZone;

use crate::batch::Batch;
use crate::config::{Action, Config, Output, OutputFraming, Protocol};
use crate::relp::frame::{Command, Encoder, Mark};
use crate::relp::{TXNR_FIRST, next_txnr};
use crate::syslog::Message;

use super::Rendering;
use super::https::{self, Builder};
use super::render::{Datagrams, Framing, Lines, Mask, OctetCounting, Renderer};

/// What would be written of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What stands in front of the message (MSG-LEN, or the RELP command), as it is sent: its length is that of the message with
    /// its real key.
    pub head: Vec<u8>,
    /// The message, keys masked.
    pub body: Vec<u8>,
    /// What stands behind it.
    pub tail: Vec<u8>,
    /// Octets of all three with the real key.
    pub octets: usize,
    /// Octets of the message with the real key.
    pub body_octets: usize,
    /// Its end is missing: the output sends no longer ones.
    pub is_cut: bool,
}

/// Renders single messages.
pub struct Preview {
    renderer: Renderer,
    builder: Builder,
    mask: Mask,
}

/// RELP's `syslog` command under the number of a connection's first message.
struct First(Encoder);

impl Framing for First {
    type Mark = Mark;

    fn begin(&mut self, out: &mut Vec<u8>) -> Option<Mark> {
        Some(self.0.begin(next_txnr(TXNR_FIRST), Command::Syslog, out))
    }

    fn end(&mut self, mark: Mark, out: &mut Vec<u8>) {
        self.0.end(mark, out);
    }
}

impl Preview {
    /// `mask` hides keys. Reception stamps are in the machine's zone, as a forwarder's are.
    pub fn new(mask: Mask) -> Self {
        let zone = TimeZone::system();
        Self { renderer: Renderer::new(&zone), builder: Builder::new(&zone), mask }
    }

    /// Hides keys in something else that is shown.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// What is written of `message` by the route with this index, keys masked, without what is around it and without the line
    /// end behind it. `None` where that is nothing.
    pub fn sent(&mut self, config: &Config, route: usize, message: &Message<'_>) -> Option<Vec<u8>> {
        let Action::Forward { output, .. } = &config.routes.get(route)?.action else { return None };
        let rendering = Rendering::of_route(config, route)?;
        let mut line = self.write(config.outputs.get(*output)?, &rendering, message)?.body;
        line.pop_if(|last| *last == b'\n');
        Some(line)
    }

    /// What a forwarder of `output` writes of `message`; `None` where it is nothing (an event without text).
    pub fn write(&mut self, output: &Output, rendering: &Rendering, message: &Message<'_>) -> Option<Written> {
        let masked = match &output.protocol {
            // What is masked in the file itself is shown as it is written.
            Protocol::File(file) if !file.reveal_keys => rendering.clone(),
            _ => self.mask.of(rendering.clone()),
        };
        if let Protocol::Https(_) = output.protocol {
            let (event, is_cut) = self.builder.alone(message, rendering);
            let octets = event?.len();
            let (body, _) = self.builder.alone(message, &masked);
            let body = self.mask.hide(&body.unwrap_or_default());
            return Some(Written { head: Vec::new(), body, tail: Vec::new(), octets, body_octets: octets, is_cut });
        }
        let mut batch = Batch::default();
        batch.push(message, 0);
        let inputs = [message.input.to_owned()];
        let real = self.frame(output, &batch, rendering, &inputs);
        let shown = self.frame(output, &batch, &masked, &inputs);
        let (head, body, tail) = parts(output, &real);
        let (_, shown, _) = parts(output, &shown);
        Some(Written {
            head: head.to_vec(),
            body: self.mask.hide(shown),
            tail: tail.to_vec(),
            octets: real.len(),
            body_octets: body.len(),
            is_cut: false,
        })
    }

    fn frame(&mut self, output: &Output, batch: &Batch, rendering: &Rendering, inputs: &[String]) -> Vec<u8> {
        self.renderer.clear();
        let renderer = &mut self.renderer;
        let of = (batch, 0);
        match output.protocol {
            Protocol::Relp { .. } => {
                renderer.render(of, rendering, inputs, &mut First(Encoder::new()), usize::MAX);
            }
            Protocol::File(_) | Protocol::Syslog(OutputFraming::Lf) => {
                renderer.render(of, rendering, inputs, &mut Lines, usize::MAX);
            }
            Protocol::Udp => {
                renderer.render(of, rendering, inputs, &mut Datagrams::default(), usize::MAX);
            }
            Protocol::Syslog(OutputFraming::Octet) | Protocol::Https(_) => {
                renderer.render(of, rendering, inputs, &mut OctetCounting::new(), usize::MAX);
            }
        }
        renderer.octets().to_vec()
    }
}

/// What stands in front of the message, the message, and what stands behind it.
fn parts<'a>(output: &Output, frame: &'a [u8]) -> (&'a [u8], &'a [u8], &'a [u8]) {
    let words = match output.protocol {
        // MSG-LEN.
        Protocol::Syslog(OutputFraming::Octet) => 1,
        // TXNR, the command, DATALEN.
        Protocol::Relp { .. } => 3,
        Protocol::Syslog(OutputFraming::Lf) | Protocol::Udp | Protocol::Https(_) | Protocol::File(_) => 0,
    };
    let mut blanks = memchr::memchr_iter(b' ', frame).take(words);
    // A RELP command without data has no space behind its DATALEN.
    let head = (0..words).try_fold(0, |_, _| blanks.next().map(|at| at + 1)).unwrap_or(frame.len());
    let (head, rest) = frame.split_at(head);
    let tail = usize::from(matches!(output.protocol, Protocol::Relp { .. }) && !rest.is_empty());
    let (body, tail) = rest.split_at(rest.len() - tail);
    (head, body, tail)
}

/// Method, path and the name of the key's header of a request to an HTTPS output.
pub fn request_line(path: &str) -> (String, &'static str) {
    (format!("POST {path}{}", https::BATCH_PATH), https::KEY_HEADER_NAME)
}
