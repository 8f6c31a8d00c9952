//! The last good addresses on the disk: a text file in the spool's folder, a name a line, its addresses behind it.
//!
//! Nothing depends on it but the time after a restart without a resolver, so that damage costs a line in the log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::{debug, warn};

use super::known::LastGood;
use super::{ADDRESSES_MAX, NAMES_MAX};

/// Its first line.
const HEAD: &str = "forebay names 1";

/// Octets that are read: more than as many names as we keep take, each with all its addresses.
const OCTETS_MAX: u64 = 256 * 1024;

/// Octets of a name (RFC 1035 section 2.3.4), with its dot.
const NAME_MAX: usize = 254;

/// What the file holds; nothing where there is none, or it cannot be read. Lines that make no sense are told of and
/// passed over.
pub(super) fn read(path: &Path) -> LastGood {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return LastGood::new(),
        Err(error) => {
            warn!(path = %path.display(), "cannot read the last good addresses: {error}");
            return LastGood::new();
        }
    };
    let (last_good, ignored) = parse(&text);
    if ignored > 0 {
        warn!(path = %path.display(), ignored, "lines of the last good addresses make no sense, and are ignored");
    }
    last_good
}

fn read_text(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for its other end.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut octets = Vec::new();
    File::open(path)?.take(OCTETS_MAX).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// The names of a text, and how many of its lines make no sense.
fn parse(text: &str) -> (LastGood, usize) {
    let (mut last_good, mut ignored) = (LastGood::new(), 0);
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return (last_good, text.lines().count());
    }
    for line in lines {
        match parse_line(line) {
            Some((host, addresses)) if last_good.len() < NAMES_MAX => {
                last_good.insert(host.to_owned(), addresses);
            }
            _ => ignored += 1,
        }
    }
    (last_good, ignored)
}

fn parse_line(line: &str) -> Option<(&str, Vec<IpAddr>)> {
    let mut words = line.split(' ');
    let host = words.next().filter(|host| is_name(host))?;
    let addresses: Option<Vec<IpAddr>> = words.map(|word| word.parse().ok()).collect();
    let addresses = addresses.filter(|addresses| (1..=ADDRESSES_MAX).contains(&addresses.len()))?;
    Some((host, addresses))
}

/// Whether a name can stand in the file: an internationalized one does in its ASCII form only.
fn is_name(host: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
    !host.is_empty() && host.len() <= NAME_MAX && host.bytes().all(is_plain)
}

/// Writes all of them, in place of what is there: whole, or not at all. The folder must be there; it is the spool's.
pub(super) fn write(path: &Path, last_good: &LastGood) -> io::Result<()> {
    let mut text = format!("{HEAD}\n");
    for (host, addresses) in last_good.iter().filter(|(host, _)| is_name(host)) {
        text.push_str(host);
        for address in addresses {
            text.push_str(&format!(" {address}"));
        }
        text.push('\n');
    }
    let part = path.with_extension("new");
    // Not what somebody else has put there, nor through a link.
    if let Err(error) = fs::remove_file(&part) {
        debug!(path = %part.display(), %error, "nothing to remove");
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names");
        let mut last_good = LastGood::new();
        last_good.insert("a.example".into(), addresses(&["192.0.2.1", "2001:db8::1"]));
        last_good.insert("b".into(), addresses(&["192.0.2.2"]));
        write(&path, &last_good).unwrap();
        assert_eq!(read(&path), last_good);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        last_good.remove("b");
        fs::write(path.with_extension("new"), "what a crash left").unwrap();
        write(&path, &last_good).unwrap();
        assert_eq!(read(&path), last_good);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_costs_the_lines_that_it_hit() {
        let text =
            "forebay names 1\n\na 192.0.2.1\nb\nc 192.0.2.300\nd  192.0.2.1\n\u{fffd} 192.0.2.1\ne 2001:db8::1\n";
        let (last_good, ignored) = parse(text);
        assert_eq!(last_good.keys().collect::<Vec<_>>(), ["a", "e"]);
        assert_eq!(ignored, 5);
        assert_eq!(parse("forebay names 2\na 192.0.2.1\n"), (LastGood::new(), 2));
        assert_eq!(parse(""), (LastGood::new(), 0));
    }

    #[test]
    fn neither_many_names_nor_many_addresses_are_taken() {
        let many: String = (0..2 * NAMES_MAX).map(|n| format!("n{n} 192.0.2.1\n")).collect();
        let (last_good, ignored) = parse(&format!("{HEAD}\n{many}"));
        assert_eq!((last_good.len(), ignored), (NAMES_MAX, NAMES_MAX));
        let (last_good, ignored) = parse(&format!("{HEAD}\na{}\n", " 192.0.2.1".repeat(ADDRESSES_MAX + 1)));
        assert_eq!((last_good.len(), ignored), (0, 1));
        assert!(!is_name(&"a".repeat(NAME_MAX + 1)));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), LastGood::new());
        assert_eq!(read(&folder.path().join("names")), LastGood::new());
        let octets: Vec<u8> = (0..=255).cycle().take(600_000).collect();
        fs::write(folder.path().join("names"), octets).unwrap();
        assert_eq!(read(&folder.path().join("names")), LastGood::new());
    }
}
