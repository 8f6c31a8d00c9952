//! `user`, `group`, `hardening` and who may ask the admin server.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::*;
use crate::config::leaf::{Off, Text};
use crate::config::{Account, AdminAccess, AdminOpen, AdminToken, Hardening};

impl Resolver<'_> {
    /// Whom the process becomes. The user database is asked here, so that a name that nobody has is a mistake of its place.
    pub(super) fn account(&mut self, user: Option<Is<Text>>, group: Option<Is<Text>>) -> Option<Account> {
        let (user_path, group_path) = (Path::root().key("user"), Path::root().key("group"));
        let group = group.map(|Is(Text(name))| (self.group(&name, &group_path), name));
        let Some(Is(Text(name))) = user else {
            if group.is_some() {
                self.missing(&user_path, "missing, expected the user that \"group\" is for");
            }
            return None;
        };
        let found = match name.parse::<u32>() {
            // An empty root has no database, and needs none for a number.
            Ok(uid) => Ok((uid, User::from_uid(Uid::from_raw(uid)).unwrap_or_default())),
            Err(_) => User::from_name(&name).map(|user| (user.as_ref().map_or(0, |user| user.uid.as_raw()), user)),
        };
        let (uid, entry) = match found {
            Ok((_, None)) if name.parse::<u32>().is_err() => {
                self.wrong(&user_path, "expected a user of this machine, or a number", "which is no user here");
                return None;
            }
            Ok(found) => found,
            Err(errno) => {
                self.mistake(&user_path, format!("the user database does not answer: {}", errno.desc()));
                return None;
            }
        };
        let gid = match (group, &entry) {
            (Some((gid, _)), _) => gid?,
            (None, Some(entry)) => entry.gid.as_raw(),
            (None, None) => {
                let why = "a number without an entry in the user database";
                self.wrong(&user_path, "expected \"group\" besides", why);
                return None;
            }
        };
        let mut groups = match entry.and_then(|entry| CString::new(entry.name).ok()) {
            Some(name) => getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default(),
            None => Vec::new(),
        };
        groups.push(Gid::from_raw(gid));
        let mut groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
        groups.sort_unstable();
        groups.dedup();
        Some(Account { name, uid, gid, groups })
    }

    fn group(&mut self, name: &str, path: &Path) -> Option<u32> {
        if let Ok(gid) = name.parse() {
            return Some(gid);
        }
        match Group::from_name(name) {
            Ok(Some(group)) => return Some(group.gid.as_raw()),
            Ok(None) => self.wrong(path, "expected a group of this machine, or a number", "which is no group here"),
            Err(errno) => self.mistake(path, format!("the user database does not answer: {}", errno.desc())),
        }
        None
    }

    /// The kernel takes filters and fences only from those that get no more rights.
    pub(super) fn hardening(&mut self, raw: Option<raw::Hardening>) -> Hardening {
        let raw = match raw {
            None => return Hardening::default(),
            Some(raw::Hardening::Off(Is(_))) => return Hardening::OFF,
            Some(raw::Hardening::Each(raw)) => raw,
        };
        let hardening = Hardening {
            no_new_privs: is_on(raw.no_new_privs),
            seccomp: is_on(raw.seccomp),
            landlock: is_on(raw.landlock),
        };
        if !hardening.no_new_privs && (hardening.seccomp || hardening.landlock) {
            let path = Path::root().key("hardening").key("no_new_privs");
            self.wrong(&path, "expected true, or \"hardening: off\"", "which \"seccomp\" and \"landlock\" need");
        }
        hardening
    }

    /// Whom the admin server answers.
    pub(super) fn admin_access(&mut self, raw: raw::Admin) -> AdminAccess {
        let path = Path::root().key("admin");
        let token_file = self.key_file(raw.token_file, &path.key("token_file"));
        let token = token_file.as_ref().and_then(|file| self.token(file, &path.key("token_file")));
        let tls = raw.tls.and_then(|tls| self.input_tls(tls, &path.key("tls")));
        let given = raw.open.len();
        let open: Vec<raw::AdminOpening> = raw.open.into_iter().filter_map(|Is(open)| value(open)).collect();
        if !open.is_empty() && open.len() < given {
            self.mistake(&path.key("open"), "found \"off\" beside a word, expected one or the other");
        }
        let open = match given {
            0 => AdminOpen::default(),
            _ => AdminOpen {
                metrics: open.contains(&raw::AdminOpening::Metrics),
                probes: open.contains(&raw::AdminOpening::Probes),
            },
        };
        let hosts = raw.hosts.into_iter().map(|Is(Text(name))| name.to_ascii_lowercase());
        AdminAccess { token, tls, open, taps: is_on(raw.taps), hosts: hosts.collect(), token_file }
    }

    /// The token in a file, without blanks around. No message shows any of it.
    fn token(&mut self, file: &FilePath, path: &Path) -> Option<AdminToken> {
        let content = match std::fs::read_to_string(file) {
            Ok(content) => zeroize::Zeroizing::new(content),
            Err(error) => {
                self.no_file(path, file, &format!("cannot be read: {error}"));
                return None;
            }
        };
        match AdminToken::new(content.trim()) {
            Ok(token) => Some(token),
            Err(found) => {
                self.mistake(path, format!("the file holds {found}, expected {}", AdminToken::EXPECTED));
                self.refused.push(path.clone());
                None
            }
        }
    }
}

/// On unless it is turned off.
fn is_on(given: Option<Is<Or<Off, bool>>>) -> bool {
    match given {
        None => true,
        Some(Is(given)) => value(given).unwrap_or(false),
    }
}
