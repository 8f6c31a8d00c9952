//! Offers: what each end says of itself in `open` and in its answer, `NAME "=" VALUE *("," VALUE)` a line (specification,
//! "Offers"; librelp's `offers.c`).

/// Ours, in both directions, in librelp's order. Version 0 is what librelp speaks (`RELP_CURR_PROTOCOL_VERSION`), whatever
/// the specification says of 1.
pub(super) const OURS: &str =
    concat!("relp_version=0\nrelp_software=forebay,", env!("CARGO_PKG_VERSION"), "\ncommands=syslog");

/// The offer of the protocol's version.
pub(super) const VERSION: &str = "relp_version";

/// The offer of commands besides those that the protocol needs.
pub(super) const COMMANDS: &str = "commands";

/// The offer of a name, a version and an address, of which only the name must be there.
pub(super) const SOFTWARE: &str = "relp_software";

/// What the other end offers.
#[derive(Clone, Copy)]
pub(super) struct Offers<'a>(pub(super) &'a [u8]);

impl<'a> Offers<'a> {
    /// The values of the first offer of this name, commas included; empty ones where it has none. Offers of other names
    /// mean nothing here.
    pub(super) fn values(self, name: &str) -> Option<&'a [u8]> {
        self.0.split(|octet| *octet == b'\n').find_map(|line| match line.strip_prefix(name.as_bytes())?.split_first() {
            None => Some(&[][..]),
            Some((b'=', values)) => Some(values),
            Some(_) => None,
        })
    }

    /// Whether `value` is among the values of an offer.
    pub(super) fn has(self, name: &str, value: &str) -> bool {
        let mut values = self.values(name).unwrap_or_default().split(|octet| *octet == b',');
        values.any(|found| found == value.as_bytes())
    }

    /// The version offered: none, a number (the largest one of 32 bits for those above), or something else (`Err`). A server
    /// that leaves it out is taken for one of version 0, as librelp does: Logstash puts its version in the line in front of
    /// the offers.
    pub(super) fn version(self) -> Result<u32, &'a [u8]> {
        let Some(version) = self.values(VERSION) else { return Ok(0) };
        if version.is_empty() || !version.iter().all(u8::is_ascii_digit) {
            return Err(version);
        }
        let digit = |value: u32, digit: &u8| value.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        Ok(version.iter().fold(0, digit))
    }
}
