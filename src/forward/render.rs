//! Records to octet-counted frames: `MSG-LEN SP SYSLOG-MSG` (RFC 6587 section 3.4.1), where the message is the rendered
//! template, its trailing LF included, as rsyslog counts it; or to lines, for a file.

use std::{fs, mem};

use jiff::tz::TimeZone;

use crate::batch::Batch;
use crate::config::IntakeKey;
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
    /// Digits of the last MSG-LEN: the next one's most probable count.
    digits: usize,
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
            digits: 3,
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

    /// Appends each record of `batch` as it is rendered, with LF behind it where the template has none.
    pub(super) fn render_lines(&mut self, batch: &Batch, rendering: &Rendering, inputs: &[String]) {
        let context = context(rendering, &self.my_hostname);
        for message in batch.messages(inputs) {
            rendering.template.render(&message, &context, &mut self.state, &mut self.out);
            if self.out.last() != Some(&b'\n') {
                self.out.push(b'\n');
            }
        }
    }

    /// Appends each record of `batch` as a frame.
    pub(super) fn render(&mut self, batch: &Batch, rendering: &Rendering, inputs: &[String]) {
        let context = context(rendering, &self.my_hostname);
        for message in batch.messages(inputs) {
            let start = self.out.len();
            // The length is known after rendering only. Room for as many digits as last time is left; where that was
            // wrong the message moves by a place or two, which is rare.
            self.out.resize(start + self.digits + 1, b' ');
            rendering.template.render(&message, &context, &mut self.state, &mut self.out);
            let length = self.out.len() - start - self.digits - 1;
            let mut formatted = itoa::Buffer::new();
            let formatted = formatted.format(length).as_bytes();
            if formatted.len() != self.digits {
                let place = start..start + self.digits;
                self.out.splice(place, formatted.iter().copied());
                self.digits = formatted.len();
            } else if let Some(place) = self.out.get_mut(start..start + formatted.len()) {
                place.copy_from_slice(formatted);
            }
        }
    }
}

fn context<'a>(rendering: &'a Rendering, my_hostname: &'a str) -> Context<'a> {
    Context { intake_key: rendering.intake_key.as_ref().map(|key| key.expose()).unwrap_or_default(), my_hostname }
}
