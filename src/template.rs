//! rsyslog string templates, compiled once and rendered into a buffer. Pure.
