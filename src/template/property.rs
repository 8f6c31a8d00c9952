//! rsyslog's properties: their names, and their plain values.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::Context;
use super::date::{self, DateFormat, ZoneCache};
use super::element;
use crate::syslog::{Message, Protocol, Span, Timestamp};

/// Where a message came from when it came through a unix socket, as rsyslog says it.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A property, without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    Msg,
    RawMsg,
    RawMsgAfterPri,
    Hostname,
    FromHost,
    SyslogTag,
    ProgramName,
    Pri,
    PriText,
    Iut,
    Facility,
    FacilityText,
    Severity,
    SeverityText,
    TimeGenerated,
    TimeReported,
    ProtocolVersion,
    StructuredData,
    AppName,
    Procid,
    Msgid,
    InputName,
    ParseSuccess,
    /// `$now` and its parts, of the local clock or (`true`) UTC.
    Now(NowPart, bool),
    MyHostname,
    Bom,
    IntakeKey,
}

/// What `$now` and its relatives print of the time of reception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NowPart {
    Date,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    HalfHour,
    QuarterHour,
    Weekday,
    Unix,
}

/// All names, in rsyslog's spelling (compared without regard to case).
pub(super) const NAMES: &[(&str, Property)] = &[
    ("msg", Property::Msg),
    ("rawmsg", Property::RawMsg),
    ("rawmsg-after-pri", Property::RawMsgAfterPri),
    ("hostname", Property::Hostname),
    ("source", Property::Hostname),
    ("fromhost", Property::FromHost),
    ("fromhost-ip", Property::FromHost),
    ("syslogtag", Property::SyslogTag),
    ("programname", Property::ProgramName),
    ("pri", Property::Pri),
    ("pri-text", Property::PriText),
    ("iut", Property::Iut),
    ("syslogfacility", Property::Facility),
    ("syslogfacility-text", Property::FacilityText),
    ("syslogseverity", Property::Severity),
    ("syslogpriority", Property::Severity),
    ("syslogseverity-text", Property::SeverityText),
    ("syslogpriority-text", Property::SeverityText),
    ("timegenerated", Property::TimeGenerated),
    ("timereceived", Property::TimeGenerated),
    ("timereported", Property::TimeReported),
    ("timestamp", Property::TimeReported),
    ("protocol-version", Property::ProtocolVersion),
    ("structured-data", Property::StructuredData),
    ("app-name", Property::AppName),
    ("procid", Property::Procid),
    ("msgid", Property::Msgid),
    ("inputname", Property::InputName),
    ("parsesuccess", Property::ParseSuccess),
    ("$now", Property::Now(NowPart::Date, false)),
    ("$year", Property::Now(NowPart::Year, false)),
    ("$month", Property::Now(NowPart::Month, false)),
    ("$day", Property::Now(NowPart::Day, false)),
    ("$hour", Property::Now(NowPart::Hour, false)),
    ("$minute", Property::Now(NowPart::Minute, false)),
    ("$hhour", Property::Now(NowPart::HalfHour, false)),
    ("$qhour", Property::Now(NowPart::QuarterHour, false)),
    ("$wday", Property::Now(NowPart::Weekday, false)),
    ("$now-utc", Property::Now(NowPart::Date, true)),
    ("$year-utc", Property::Now(NowPart::Year, true)),
    ("$month-utc", Property::Now(NowPart::Month, true)),
    ("$day-utc", Property::Now(NowPart::Day, true)),
    ("$hour-utc", Property::Now(NowPart::Hour, true)),
    ("$minute-utc", Property::Now(NowPart::Minute, true)),
    ("$hhour-utc", Property::Now(NowPart::HalfHour, true)),
    ("$qhour-utc", Property::Now(NowPart::QuarterHour, true)),
    ("$wday-utc", Property::Now(NowPart::Weekday, true)),
    ("$now-unixtimestamp", Property::Now(NowPart::Unix, true)),
    ("$myhostname", Property::MyHostname),
    ("$bom", Property::Bom),
    ("intake_key", Property::IntakeKey),
];

/// The property of that name, whatever its case.
pub(super) fn by_name(name: &str) -> Option<Property> {
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, property)| *property)
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
