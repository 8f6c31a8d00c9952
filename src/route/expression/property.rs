//! rsyslog's properties as conditions see them: their names, and their values without a copy where there is something to
//! point at.

use crate::route::view::View;
use crate::syslog::{Protocol, Span};

/// A property of a message.
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
    ProtocolVersion,
    StructuredData,
    AppName,
    Procid,
    Msgid,
    InputName,
    ParseSuccess,
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
    ("protocol-version", Property::ProtocolVersion),
    ("structured-data", Property::StructuredData),
    ("app-name", Property::AppName),
    ("procid", Property::Procid),
    ("msgid", Property::Msgid),
    ("inputname", Property::InputName),
    ("parsesuccess", Property::ParseSuccess),
];

/// Properties of rsyslog's that a condition cannot ask for here, and why.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("timegenerated", TIMES),
    ("timereceived", TIMES),
    ("timereported", TIMES),
    ("timestamp", TIMES),
    ("fromhost-port", "the sender's port is not kept"),
    ("jsonmesg", "messages have no JSON here"),
    ("uuid", "messages have no UUID here"),
    ("$myhostname", "this machine's name is no part of a message"),
    ("$bom", "it is the same for every message"),
    ("$uptime", "it is no part of a message"),
];

const TIMES: &str = "times are not compared";

/// `$now` and its relatives are many.
pub(super) const NOW: &[&str] =
    &["$now", "$year", "$month", "$day", "$hour", "$minute", "$hhour", "$qhour", "$wday", "$now-unixtimestamp"];

/// Why a property of rsyslog's is not supported; `None` where there is none of that name.
pub(super) fn unsupported(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let of_now = NOW.contains(&name.strip_suffix("-utc").unwrap_or(&name)).then_some(TIMES);
    UNSUPPORTED.iter().find(|(known, _)| *known == name).map(|(_, why)| *why).or(of_now)
}

impl Property {
    /// The property of that name, whatever its case.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, property)| *property)
    }

    /// The value.
    pub(super) fn of<'v>(self, view: &'v View<'_>) -> &'v [u8] {
        let message = view.message();
        let fields = message.fields;
        let or_nil = |span: Option<Span>| span.map_or(b"-".as_slice(), |span| span.of(message.raw));
        match self {
            Self::Msg => message.msg(),
            Self::RawMsg => message.raw,
            Self::RawMsgAfterPri => message.raw.get(fields.after_pri as usize..).unwrap_or_default(),
            Self::Hostname => view.hostname(),
            Self::FromHost => view.from_host(),
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
        }
    }
}
