//! Records to a request's body: events, LF between them, compressed.

use std::io::{self, Write};
use std::mem;
use std::ops::Range;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use jiff::tz::TimeZone;
use tokio::task::yield_now;

use crate::syslog::Message;
use crate::template::{self, Context};

use super::super::Rendering;
use super::super::render::my_hostname;
use super::event::{self, Event};
use super::taken::Taken;

/// Octets that are compressed at a time: a fraction of a millisecond, after which this core's receivers have their turn.
const SLICE: usize = 32 * 1024;

/// How hard it is tried: the least. Logs shrink to a quarter already (docs/PERFORMANCE.md), and the line is seldom what is short.
const LEVEL: u32 = 1;

/// A request's body.
pub(super) struct Body {
    /// Compressed.
    pub(super) octets: Bytes,
    /// Octets before compression.
    pub(super) plain: usize,
    /// Numbers of the records that it holds, by the place of their events.
    pub(super) sent: Vec<usize>,
    /// Numbers of the records that render to nothing.
    pub(super) empty: Vec<usize>,
    /// How many were cut.
    pub(super) cut: usize,
    /// The first record that it has no room for, or the end of what was asked for.
    pub(super) end: usize,
}

/// What bodies are made with.
pub(in crate::forward) struct Builder {
    state: template::Renderer,
    my_hostname: String,
    /// Rendered, not compressed yet.
    plain: Vec<u8>,
}

impl Builder {
    /// `zone` is that of reception stamps.
    pub(in crate::forward) fn new(zone: &TimeZone) -> Self {
        Self { state: template::Renderer::new(zone.clone()), my_hostname: my_hostname(), plain: Vec::new() }
    }

    /// Makes a body of the records in `range`, or of as many of them as `max` octets hold, one at least. Lets others run
    /// in between.
    ///
    /// # Errors
    /// When the compressor fails, which has no reason to.
    pub(super) async fn build(
        &mut self,
        taken: &Taken,
        range: Range<usize>,
        max: usize,
        rendering: &Rendering,
        inputs: &[String],
    ) -> io::Result<Body> {
        let mut body =
            Body { octets: Bytes::new(), plain: 0, sent: Vec::new(), empty: Vec::new(), cut: 0, end: range.end };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        self.plain.clear();
        'all: for (first, batch) in taken.batches() {
            if first + batch.len() <= range.start {
                continue;
            }
            let skipped = range.start.saturating_sub(first);
            for (number, message) in batch.messages(inputs).enumerate().skip(skipped) {
                let record = first + number;
                if record >= range.end {
                    break 'all;
                }
                if !self.append(&message, record, max, rendering, &mut body) {
                    body.end = record;
                    break 'all;
                }
                if self.plain.len() >= SLICE {
                    self.compress(&mut gzip).await?;
                }
            }
        }
        self.compress(&mut gzip).await?;
        body.octets = gzip.finish()?.into();
        Ok(body)
    }

    /// Appends an event. `false`: there is no room.
    fn append(
        &mut self,
        message: &Message<'_>,
        record: usize,
        max: usize,
        rendering: &Rendering,
        body: &mut Body,
    ) -> bool {
        let before = self.plain.len();
        if !body.sent.is_empty() {
            self.plain.push(b'\n');
        }
        let event = self.event(message, rendering);
        let octets = self.plain.len() - before;
        if event == Event::Empty {
            self.plain.truncate(before);
            body.empty.push(record);
            return true;
        }
        if body.plain + octets > max && !body.sent.is_empty() {
            self.plain.truncate(before);
            return false;
        }
        body.plain += octets;
        body.cut += usize::from(event == Event::Cut);
        body.sent.push(record);
        true
    }

    /// Renders a message behind what is in the buffer, and makes one event of it.
    fn event(&mut self, message: &Message<'_>, rendering: &Rendering) -> Event {
        let start = self.plain.len();
        let key = rendering.intake_key.as_ref().map(|key| key.expose()).unwrap_or_default();
        let context = Context { intake_key: key, my_hostname: &self.my_hostname };
        rendering.template.render(message, &context, &mut self.state, &mut self.plain);
        event::finish(&mut self.plain, start)
    }

    /// One event alone, before it is compressed; `None` where the message renders to nothing.
    pub(in crate::forward) fn alone(
        &mut self,
        message: &Message<'_>,
        rendering: &Rendering,
    ) -> (Option<Vec<u8>>, bool) {
        self.plain.clear();
        let event = self.event(message, rendering);
        let octets = mem::take(&mut self.plain);
        (Some(octets).filter(|_| event != Event::Empty), event == Event::Cut)
    }

    async fn compress(&mut self, gzip: &mut GzEncoder<Vec<u8>>) -> io::Result<()> {
        for slice in self.plain.chunks(SLICE) {
            gzip.write_all(slice)?;
            yield_now().await;
        }
        self.plain.clear();
        self.plain.shrink_to(2 * SLICE);
        Ok(())
    }
}
