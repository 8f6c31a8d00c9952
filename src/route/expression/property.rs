//! rsyslog's properties as conditions see them: which of them, and their values without a copy where there is something to
//! point at.

use crate::route::view::View;
use crate::syslog::property::NAMES;
use crate::syslog::{Property, Protocol, Span};

/// Properties of rsyslog's that there are not here at all, and why.
const ABSENT: &[(&str, &str)] = &[
    ("fromhost-port", "the sender's port is not kept"),
    ("jsonmesg", "messages have no JSON here"),
    ("uuid", "messages have no UUID here"),
    ("$uptime", "it is no part of a message"),
];

/// The property of that name that a condition may ask for.
pub(super) fn by_name(name: &str) -> Option<Property> {
    Property::by_name(name).filter(|property| property.refused().is_none())
}

/// All names that [`by_name`] knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().filter(|(_, property)| property.refused().is_none()).map(|(name, _)| *name)
}

/// Why a property of rsyslog's is not supported; `None` where there is none of that name.
pub(super) fn unsupported(name: &str) -> Option<&'static str> {
    let absent = || ABSENT.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, why)| *why);
    Property::by_name(name).and_then(Property::refused).or_else(absent)
}

impl Property {
    /// Why a condition cannot ask for it.
    const fn refused(self) -> Option<&'static str> {
        match self {
            Self::TimeGenerated | Self::TimeReported | Self::Now(..) => Some("times are not compared"),
            Self::MyHostname => Some("this machine's name is no part of a message"),
            Self::Bom => Some("it is the same for every message"),
            Self::IntakeKey => Some("keys are not compared"),
            _ => None,
        }
    }

    /// The value. Inlined: out of line it cost each message that is asked for one 24 instructions more.
    #[inline]
    pub(super) fn of<'v>(self, view: &'v View<'_>) -> &'v [u8] {
        let message = view.message();
        let fields = message.fields;
        let or_nil = |span: Option<Span>| span.map_or(b"-".as_slice(), |span| span.of(message.raw));
        match self {
            Self::Msg => message.msg(),
            Self::RawMsg => message.raw,
            Self::RawMsgAfterPri => message.raw.get(fields.after_pri as usize..).unwrap_or_default(),
            Self::Hostname => view.hostname(),
            Self::FromHost => view.peer_address(),
            Self::SyslogTag if fields.protocol == Protocol::Rfc3164 => fields.tag.of(message.raw),
            Self::SyslogTag => view.made_up_tag(),
            Self::ProgramName => message.program_name(),
            Self::Pri => fields.pri.text(),
            Self::PriText => view.pri_text(),
            // What rsyslog says of every message that is not of Adiscon's own agent.
            Self::Iut => b"1",
            Self::Facility => fields.pri.facility().text(),
            Self::FacilityText => fields.pri.facility().name().as_bytes(),
            Self::Severity => fields.pri.severity().text(),
            Self::SeverityText => fields.pri.severity().name().as_bytes(),
            Self::ProtocolVersion if fields.protocol == Protocol::Rfc5424 => b"1",
            Self::ProtocolVersion => b"0",
            Self::StructuredData => or_nil(fields.structured_data),
            Self::AppName => or_nil(fields.app_name),
            Self::Procid => or_nil(fields.procid),
            Self::Msgid => or_nil(fields.msgid),
            Self::InputName => message.input.as_bytes(),
            // What rsyslog says as long as no normalizing module ran.
            Self::ParseSuccess => b"FAIL",
            // Refused when conditions are compiled.
            Self::TimeGenerated
            | Self::TimeReported
            | Self::Now(..)
            | Self::MyHostname
            | Self::Bom
            | Self::IntakeKey => b"",
        }
    }
}
