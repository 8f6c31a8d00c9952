//! rsyslog's properties: the names that templates and conditions know them by.

/// A property, without a template's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// MSG, as rsyslog has it: with what stands before it.
    Msg,
    /// The frame.
    RawMsg,
    /// The frame behind PRI.
    RawMsgAfterPri,
    /// HOSTNAME, or where the message came from.
    Hostname,
    /// The peer's address.
    FromHost,
    /// TAG; of RFC 5424, made of APP-NAME and PROCID.
    SyslogTag,
    /// What routes call the program.
    ProgramName,
    /// PRIVAL.
    Pri,
    /// `FACILITY.SEVERITY`, in words.
    PriText,
    /// 1: what rsyslog says of every message that is not of Adiscon's own agent.
    Iut,
    /// Its number.
    Facility,
    /// Its name.
    FacilityText,
    /// Its number.
    Severity,
    /// Its name.
    SeverityText,
    /// When it was received.
    TimeGenerated,
    /// TIMESTAMP.
    TimeReported,
    /// 1 of RFC 5424, else 0.
    ProtocolVersion,
    /// STRUCTURED-DATA.
    StructuredData,
    /// APP-NAME.
    AppName,
    /// PROCID.
    Procid,
    /// MSGID.
    Msgid,
    /// The input that it came through.
    InputName,
    /// What a normalizing module says.
    ParseSuccess,
    /// `$now` and its parts, of the local clock or (`true`) UTC.
    Now(NowPart, bool),
    /// This machine's name.
    MyHostname,
    /// UTF-8's byte order mark.
    Bom,
    /// The key of the route that takes the message: no property of rsyslog's, and printed by templates alone.
    IntakeKey,
}

/// What `$now` and its relatives print of the time of reception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NowPart {
    /// `2026-11-26`
    Date,
    /// `2026`
    Year,
    /// `11`
    Month,
    /// `26`
    Day,
    /// `00` to `23`
    Hour,
    /// `00` to `59`
    Minute,
    /// `00` or `01`
    HalfHour,
    /// `00` to `03`
    QuarterHour,
    /// `0`, Sunday, to `6`
    Weekday,
    /// Seconds since 1970.
    Unix,
}

/// All names, in rsyslog's spelling (compared without regard to case).
pub const NAMES: &[(&str, Property)] = &[
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
];

impl Property {
    /// The property of that name, whatever its case.
    pub fn by_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, property)| *property)
    }
}
