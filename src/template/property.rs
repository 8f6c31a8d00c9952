//! rsyslog's properties as templates print them: their plain values.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::Context;
use super::date::{self, DateFormat, ZoneCache};
use super::element;
use crate::syslog::property::{self, NowPart};
use crate::syslog::{Message, Property, Protocol, Span, Timestamp};

/// Ours, among rsyslog's.
const INTAKE_KEY: &str = "intake_key";

/// Where a message came from when it came through a unix socket, as rsyslog says it.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// All names that a template may print: rsyslog's, and the route's key.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    property::NAMES.iter().map(|(name, _)| *name).chain([INTAKE_KEY])
}

/// The property of that name, whatever its case.
pub(super) fn by_name(name: &str) -> Option<Property> {
    if name.eq_ignore_ascii_case(INTAKE_KEY) { Some(Property::IntakeKey) } else { Property::by_name(name) }
}

impl Property {
    /// Whether `date-*` options apply.
    pub(super) const fn is_time(self) -> bool {
        matches!(self, Self::TimeGenerated | Self::TimeReported)
    }

    /// The time of a time property, in UTC when asked for.
    #[inline]
    pub(super) fn time(self, utc: bool, message: &Message<'_>, zone: &mut ZoneCache) -> Timestamp {
        let of_message = if self == Self::TimeReported { message.fields.timestamp } else { None };
        let stamp = of_message.unwrap_or_else(|| zone.local(message.received_at_us));
        if utc { date::to_utc(&stamp) } else { stamp }
    }

    /// The value without options where it lies somewhere already: nearly always. `own_element` as in [`Self::append`].
    #[inline(always)]
    pub(super) fn borrow<'a>(
        self,
        own_element: bool,
        message: &Message<'a>,
        context: &Context<'a>,
    ) -> Option<&'a [u8]> {
        let fields = message.fields;
        Some(match self {
            Self::Msg => message.msg(),
            Self::RawMsg => message.raw,
            Self::RawMsgAfterPri => message.raw.get(fields.after_pri as usize..).unwrap_or_default(),
            Self::Hostname => message.hostname()?,
            Self::ProgramName => message.program_name(),
            Self::Pri => fields.pri.text(),
            Self::Iut => b"1",
            Self::FacilityText => fields.pri.facility().name().as_bytes(),
            Self::SeverityText => fields.pri.severity().name().as_bytes(),
            Self::ProtocolVersion if fields.protocol == Protocol::Rfc5424 => b"1",
            Self::ProtocolVersion => b"0",
            Self::StructuredData if own_element && fields.structured_data.is_some() => return None,
            Self::StructuredData => or_nil(fields.structured_data, message.raw),
            Self::AppName => or_nil(fields.app_name, message.raw),
            Self::Procid => or_nil(fields.procid, message.raw),
            Self::Msgid => or_nil(fields.msgid, message.raw),
            Self::InputName => message.input.as_bytes(),
            // What rsyslog says as long as no normalizing module ran.
            Self::ParseSuccess => b"FAIL",
            Self::MyHostname => context.my_hostname.as_bytes(),
            Self::Bom => b"\xEF\xBB\xBF",
            Self::IntakeKey => context.intake_key,
            Self::SyslogTag if fields.protocol == Protocol::Rfc3164 => fields.tag.of(message.raw),
            _ => return None,
        })
    }

    /// Appends the value without options. `own_element`: the template prints a SEKOIA@53288 element itself.
    pub(super) fn append(
        self,
        own_element: bool,
        message: &Message<'_>,
        context: &Context<'_>,
        zone: &mut ZoneCache,
        out: &mut Vec<u8>,
    ) {
        if let Some(value) = self.borrow(own_element, message, context) {
            out.extend_from_slice(value);
            return;
        }
        let fields = message.fields;
        match self {
            // A unix socket's sender is on this machine; rsyslog's imuxsock names it too.
            Self::Hostname if message.peer.is_none() => {
                out.extend_from_slice(context.my_hostname.as_bytes());
            }
            Self::Hostname | Self::FromHost => append_peer(message.peer, out),
            Self::SyslogTag => append_tag(message, out),
            Self::PriText => {
                out.extend_from_slice(fields.pri.facility().name().as_bytes());
                out.push(b'.');
                out.extend_from_slice(fields.pri.severity().name().as_bytes());
            }
            Self::Facility => date::number(i64::from(fields.pri.facility().code()), out),
            Self::Severity => date::number(i64::from(fields.pri.severity().code()), out),
            Self::TimeGenerated | Self::TimeReported => {
                date::write(&self.time(false, message, zone), DateFormat::Rfc3164, out);
            }
            Self::StructuredData => {
                element::append_without_ours(or_nil(fields.structured_data, message.raw), out);
            }
            Self::Now(part, utc) => append_now(part, utc, message.received_at_us, zone, out),
            // The others are borrowed.
            _ => {}
        }
    }
}

fn or_nil(span: Option<Span>, raw: &[u8]) -> &[u8] {
    span.map_or(b"-", |span| span.of(raw))
}

/// For RFC 5424 rsyslog makes one: APP-NAME, or `APP-NAME[PROCID]` where there is a PROCID (msg.c, tryEmulateTAG).
fn append_tag(message: &Message<'_>, out: &mut Vec<u8>) {
    let fields = message.fields;
    out.extend_from_slice(or_nil(fields.app_name, message.raw));
    if let Some(procid) = fields.procid {
        out.push(b'[');
        out.extend_from_slice(procid.of(message.raw));
        out.push(b']');
    }
}

/// The peer's address; an IPv4-mapped one as IPv4.
fn append_peer(peer: Option<IpAddr>, out: &mut Vec<u8>) {
    match peer.unwrap_or(LOOPBACK).to_canonical() {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => {
            // Writing to a Vec cannot fail.
            let _infallible = write!(out, "{address}");
        }
    }
}

fn append_now(part: NowPart, utc: bool, received_at_us: i64, zone: &mut ZoneCache, out: &mut Vec<u8>) {
    let now: Timestamp =
        if utc { date::civil(received_at_us.div_euclid(1_000_000), 0, 0) } else { zone.local(received_at_us) };
    match part {
        NowPart::Date => {
            out.extend_from_slice(&date::four(now.year));
            for field in [now.month, now.day] {
                out.push(b'-');
                out.extend_from_slice(&date::two(field));
            }
        }
        NowPart::Year => date::write(&now, DateFormat::Year, out),
        NowPart::Month => date::write(&now, DateFormat::Month, out),
        NowPart::Day => date::write(&now, DateFormat::Day, out),
        NowPart::Hour => date::write(&now, DateFormat::Hour, out),
        NowPart::Minute => date::write(&now, DateFormat::Minute, out),
        NowPart::HalfHour => out.extend_from_slice(&date::two(now.minute / 30)),
        NowPart::QuarterHour => out.extend_from_slice(&date::two(now.minute / 15)),
        NowPart::Weekday => date::write(&now, DateFormat::Wday, out),
        NowPart::Unix => date::write(&now, DateFormat::Unix, out),
    }
}
