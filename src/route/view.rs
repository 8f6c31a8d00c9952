//! A message, with what of it takes some work to tell.

use std::cell::OnceCell;
use std::io::{Cursor, Write};
use std::net::{IpAddr, Ipv4Addr};

use crate::syslog::Message;

/// Octets of the longest textual address: `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const ADDRESS_LEN_MAX: usize = 45;

/// Octets of the longest `facility.severity`.
const PRI_TEXT_LEN_MAX: usize = 16;

/// rsyslog's limit of a TAG that it makes up for RFC 5424 (CONF_TAG_MAXSIZE, without the NUL).
const TAG_LEN_MAX: usize = 511;

/// Where a message came from when it came through a unix socket, as rsyslog says it.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What all rules ask of one message: made at most once, on the stack.
pub(super) struct View<'m> {
    message: &'m Message<'m>,
    peer: OnceCell<Made<ADDRESS_LEN_MAX>>,
    tag: OnceCell<Made<TAG_LEN_MAX>>,
    pri: OnceCell<Made<PRI_TEXT_LEN_MAX>>,
}

/// A text that lies nowhere in the message.
struct Made<const MAX: usize> {
    text: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Made<MAX> {
    /// What `write` writes; where it is longer than `MAX`, its beginning.
    fn new(write: impl FnOnce(&mut Cursor<&mut [u8]>) -> std::io::Result<()>) -> Self {
        let mut text = [0; MAX];
        let mut cursor = Cursor::new(text.as_mut_slice());
        // Fails where there is no more room, and has written what there was room for.
        let _cut = write(&mut cursor);
        let len = usize::try_from(cursor.position()).unwrap_or_default();
        Self { text, len }
    }

    fn get(&self) -> &[u8] {
        self.text.get(..self.len).unwrap_or_default()
    }
}

impl<'m> View<'m> {
    pub(super) const fn new(message: &'m Message<'m>) -> Self {
        Self { message, peer: OnceCell::new(), tag: OnceCell::new(), pri: OnceCell::new() }
    }

    pub(super) const fn message(&self) -> &'m Message<'m> {
        self.message
    }

    /// HOSTNAME, or the peer's address; empty where there is neither.
    pub(super) fn hostname(&self) -> &[u8] {
        match self.message.hostname() {
            Some(hostname) => hostname,
            None if self.message.peer.is_none() => b"",
            None => self.from_host(),
        }
    }

    /// The peer's address; an IPv4-mapped one as IPv4.
    pub(super) fn from_host(&self) -> &[u8] {
        let peer = self.message.peer.unwrap_or(LOOPBACK).to_canonical();
        self.peer.get_or_init(|| Made::new(|out| write!(out, "{peer}"))).get()
    }

    /// For RFC 5424 rsyslog makes a TAG: APP-NAME, or `APP-NAME[PROCID]` where there is a PROCID (msg.c, tryEmulateTAG).
    pub(super) fn made_up_tag(&self) -> &[u8] {
        let fields = self.message.fields;
        let app_name = fields.app_name.map_or(b"-".as_slice(), |span| span.of(self.message.raw));
        let Some(procid) = fields.procid else { return app_name };
        let write = |out: &mut Cursor<&mut [u8]>| {
            out.write_all(app_name)?;
            out.write_all(b"[")?;
            out.write_all(procid.of(self.message.raw))?;
            out.write_all(b"]")
        };
        self.tag.get_or_init(|| Made::new(write)).get()
    }

    /// `facility.severity`, as names.
    pub(super) fn pri_text(&self) -> &[u8] {
        let pri = self.message.fields.pri;
        let write = |out: &mut Cursor<&mut [u8]>| write!(out, "{}.{}", pri.facility().name(), pri.severity().name());
        self.pri.get_or_init(|| Made::new(write)).get()
    }
}
