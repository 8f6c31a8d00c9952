//! Records to frames: the rendered template, its trailing LF included (rsyslog counts it as well), in what the protocol
//! puts around a message; or to lines, for a file.

use std::{fs, mem};

use jiff::tz::TimeZone;

use crate::batch::Batch;
use crate::config::IntakeKey;
use crate::relp::client::Client;
use crate::relp::frame::{Command, Encoder, Mark};
use crate::template::{self, Context};

use super::Rendering;

/// What the buffer keeps between writes: somewhat more than one write's records make.
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// What is written in an intake key's place.
const MASK: &str = "***";

impl Rendering {
    /// Without any intake key: masked are the route's own, those of `others` that stand in the template's text, and what
    /// the text itself calls one (`intake_key="…"`).
    #[must_use]
    pub fn masked<'a>(self, others: impl Iterator<Item = &'a IntakeKey>) -> Self {
        let keys: Vec<&[u8]> = others.map(|key| key.expose()).collect();
        Self {
            template: self.template.masked(&keys, MASK.as_bytes()),
            intake_key: Some(IntakeKey::new(MASK.to_owned())),
        }
    }
}

/// A reusable buffer of frames.
pub(super) struct Renderer {
    state: template::Renderer,
    my_hostname: String,
    out: Vec<u8>,
}

/// What stands around a message. Its length is known once it is rendered only.
pub(super) trait Framing {
    /// Where a frame began.
    type Mark;

    /// Appends what is in front of a message; `None` where no more may be sent now.
    fn begin(&mut self, out: &mut Vec<u8>) -> Option<Self::Mark>;

    /// Completes the frame that `mark` is of: all that is behind it in `out` is its message.
    fn end(&mut self, mark: Self::Mark, out: &mut Vec<u8>);
}

/// `MSG-LEN SP SYSLOG-MSG` (RFC 6587 section 3.4.1).
pub(super) struct OctetCounting {
    /// Digits of the last MSG-LEN: the next one's most probable count.
    digits: usize,
}

impl OctetCounting {
    /// One that has seen nothing.
    pub(super) const fn new() -> Self {
        Self { digits: 3 }
    }
}

impl Framing for OctetCounting {
    type Mark = usize;

    fn begin(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        // Room for as many digits as last time is left; where that was wrong the message moves by a place or two, which
        // is rare.
        let start = out.len();
        out.resize(start + self.digits + 1, b' ');
        Some(start)
    }

    fn end(&mut self, start: usize, out: &mut Vec<u8>) {
        let length = out.len() - start - self.digits - 1;
        let mut formatted = itoa::Buffer::new();
        let formatted = formatted.format(length).as_bytes();
        if formatted.len() != self.digits {
            let place = start..start + self.digits;
            out.splice(place, formatted.iter().copied());
            self.digits = formatted.len();
        } else if let Some(place) = out.get_mut(start..start + formatted.len()) {
            place.copy_from_slice(formatted);
        }
    }
}

/// A line each: LF behind it where the template has none (RFC 6587 section 3.4.2, as rsyslog has it).
pub(super) struct Lines;

impl Framing for Lines {
    type Mark = ();

    fn begin(&mut self, _: &mut Vec<u8>) -> Option<()> {
        Some(())
    }

    fn end(&mut self, (): (), out: &mut Vec<u8>) {
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

/// A message a datagram: where each of them ends.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    ends: Vec<usize>,
}

impl Datagrams {
    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.ends.clear();
    }

    /// Each datagram in `octets`, which hold nothing else.
    pub(super) fn of<'o>(&self, octets: &'o [u8]) -> impl Iterator<Item = &'o [u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| octets.get(*start..*end).unwrap_or_default())
    }
}

impl Framing for Datagrams {
    type Mark = ();

    fn begin(&mut self, _: &mut Vec<u8>) -> Option<()> {
        Some(())
    }

    fn end(&mut self, (): (), out: &mut Vec<u8>) {
        self.ends.push(out.len());
    }
}

/// RELP's `syslog` command, numbered by the connection's client.
pub(super) struct Numbering<'a> {
    /// Gives out numbers while its window has room.
    pub(super) client: &'a mut Client,
    /// Builds the frames.
    pub(super) encoder: &'a mut Encoder,
}

impl Framing for Numbering<'_> {
    type Mark = Mark;

    fn begin(&mut self, out: &mut Vec<u8>) -> Option<Mark> {
        let txnr = self.client.next_txnr()?;
        Some(self.encoder.begin(txnr, Command::Syslog, out))
    }

    fn end(&mut self, mark: Mark, out: &mut Vec<u8>) {
        self.encoder.end(mark, out);
    }
}

impl Renderer {
    /// An empty buffer; `zone` is that of reception stamps.
    pub(super) fn new(zone: &TimeZone) -> Self {
        // The kernel's own file: no library call is needed for a name that changes at boot.
        let my_hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            state: template::Renderer::new(zone.clone()),
            my_hostname: my_hostname.trim().to_owned(),
            out: Vec::new(),
        }
    }

    /// Forgets what was rendered; a buffer that one huge message made is given back.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
    }

    /// All frames rendered since the last [`Self::clear`].
    pub(super) fn octets(&self) -> &[u8] {
        &self.out
    }

    /// The buffer itself, to be [given back](Self::give_back).
    pub(super) fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.out)
    }

    /// A buffer that was taken. What is in it is forgotten with the next [`Self::clear`].
    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.out = buffer;
    }

    /// Appends each record of `batch` from the one at `from` on as a frame, until no more may be sent or there are `octets_max`
    /// octets. Returns how many those were.
    pub(super) fn render<F: Framing>(
        &mut self,
        (batch, from): (&Batch, usize),
        rendering: &Rendering,
        inputs: &[String],
        framing: &mut F,
        octets_max: usize,
    ) -> usize {
        let context = Context {
            intake_key: rendering.intake_key.as_ref().map(|key| key.expose()).unwrap_or_default(),
            my_hostname: &self.my_hostname,
        };
        let mut count = 0;
        for message in batch.messages(inputs).skip(from) {
            if self.out.len() >= octets_max {
                break;
            }
            let Some(mark) = framing.begin(&mut self.out) else { break };
            rendering.template.render(&message, &context, &mut self.state, &mut self.out);
            framing.end(mark, &mut self.out);
            count += 1;
        }
        count
    }
}
