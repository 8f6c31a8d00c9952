//! The packages of `deploy/package.sh`, under a real systemd: installed, started, reloaded, upgraded, removed. `FOREBAY_STATIC` names the
//! binary that is packed, else it is the one that this was built with.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may panic, and says what it skips"
)]

#[path = "support/harness.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::installed;
use support::machine::Machine;
use support::waiting::eventually;
use tempfile::TempDir;

/// The first package and the second, of each kind.
struct Packages {
    folder: TempDir,
}

impl Packages {
    /// Of this kind: `deb` or `rpm`.
    fn make(kind: &str) -> Self {
        let packages = Self { folder: tempfile::tempdir().unwrap() };
        let binary = std::env::var_os("FOREBAY_STATIC").map_or(env!("CARGO_BIN_EXE_forebay").into(), PathBuf::from);
        let stripped = packages.folder.path().join("forebay");
        let strip = Command::new("strip").arg("-o").arg(&stripped).arg(binary).status().unwrap();
        assert!(strip.success());
        for release in ["1", "2"] {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/package.sh");
            let mut command = Command::new(script);
            command.env("CARGO_TARGET_DIR", packages.folder.path()).env("FAST", "yes");
            command.env("FOREBAY_STATIC", &stripped).env("RELEASE", release).env("KINDS", kind);
            let made = command.output().unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        packages
    }

    /// Whose name ends so.
    fn of(&self, end: &str) -> PathBuf {
        let all = std::fs::read_dir(self.folder.path().join("package")).unwrap();
        let mut all = all.map(|entry| entry.unwrap().path());
        let found = all.find(|path| path.to_str().unwrap().ends_with(end));
        found.unwrap_or_else(|| panic!("no package ends in {end}"))
    }
}

const CONFIGURATION: &str = "inputs: {lan: {listen: ['udp://0.0.0.0:514', 'tcp://0.0.0.0:514']}}
outputs: {disk: {to: 'file:///var/lib/forebay/sent'}}
routes: [{name: all, intake_key_file: key_default}]
spool: {dir: /var/lib/forebay/spool}
# of the administrator
";

/// How a kind of package is installed over another, and removed; and what the configuration is called then.
struct Kind {
    install: &'static str,
    upgrade: &'static str,
    remove: &'static str,
    left: &'static str,
}

const DEB: Kind = Kind {
    install: "dpkg -i /root/forebay.1",
    upgrade: "dpkg --force-confold -i /root/forebay.2",
    remove: "dpkg -r forebay",
    left: "/etc/forebay/forebay.yaml",
};

const RPM: Kind = Kind {
    install: "rpm --nodeps -i /root/forebay.1",
    upgrade: "rpm --nodeps -U /root/forebay.2",
    remove: "rpm -e forebay",
    left: "/etc/forebay/forebay.yaml.rpmsave",
};

/// Sends a message as a program does, and waits until it has been sent on.
fn passes(machine: &Machine, message: &str, way: &str) {
    machine.run(&format!("logger -n 127.0.0.1 -P 514 {way} -t packed '{message}'"));
    arrives(machine, message);
}

fn arrives(machine: &Machine, message: &str) {
    eventually("the message in the output's file", || {
        let sent = machine.output("cat /var/lib/forebay/sent");
        let sent = String::from_utf8_lossy(&sent.stdout).into_owned();
        if sent.contains(message) { Ok(()) } else { Err(format!("{sent}{}", machine.journal())) }
    });
}

fn process(machine: &Machine) -> String {
    machine.run("systemctl show --property MainPID --value forebay")
}

/// From an empty machine to an empty machine.
fn life(machine: &Machine, packages: [PathBuf; 2], kind: &Kind) {
    for (number, package) in packages.iter().enumerate() {
        machine.copy(package, &format!("/root/forebay.{}", number + 1));
    }
    machine.run(kind.install);
    assert_eq!(machine.run("stat -c %a /etc/forebay/environment /etc/forebay/keys"), "600\n700");
    assert_eq!(machine.output("systemctl is-active forebay").stdout, b"inactive\n", "it starts before it has a key");
    // Before it has one it says what is missing, and is not started again and again.
    assert!(!machine.output("systemctl start forebay").status.success());
    assert!(machine.journal().contains("key_default"), "{}", machine.journal());

    machine.run("umask 077; echo 0123456789abcdef > /etc/forebay/keys/default");
    machine.write("/etc/forebay/forebay.yaml", CONFIGURATION);
    machine.run("systemctl reset-failed forebay; systemctl start forebay.socket forebay.service");
    passes(machine, "over UDP", "-d");
    passes(machine, "over TCP", "-T --octet-count");
    // Another configuration, and the same process.
    let first = process(machine);
    let template = "template: 'in other words: %msg%\\n'";
    machine.write(
        "/etc/forebay/forebay.yaml",
        &CONFIGURATION.replace("key_default}", &format!("key_default, {template}}}")),
    );
    machine.run("systemctl reload forebay");
    eventually("a message with the other template", || {
        machine.run("logger -n 127.0.0.1 -P 514 -d -t packed 'after the reload'");
        let sent = machine.run("cat /var/lib/forebay/sent");
        if sent.contains("in other words: after the reload") { Ok(()) } else { Err(sent) }
    });
    assert_eq!(process(machine), first);
    let status = machine.run("systemctl status --no-pager forebay");
    assert!(status.contains("Status: \""), "{status}");

    // What is sent while nobody runs waits in the socket unit's sockets, and starts it.
    machine.run("systemctl stop forebay.service");
    passes(machine, "while it was stopped", "-T --octet-count");

    let first = process(machine);
    machine.run(kind.upgrade);
    eventually("another process", || {
        let now = process(machine);
        if now != first && now != "0" { Ok(()) } else { Err(now) }
    });
    assert_eq!(machine.run("tail -1 /etc/forebay/forebay.yaml"), "# of the administrator");
    passes(machine, "after the upgrade", "-d");

    machine.run(kind.remove);
    assert_eq!(machine.output("systemctl is-active forebay.service forebay.socket").stdout, b"inactive\ninactive\n");
    assert!(!machine.output("ls /usr/bin/forebay /usr/lib/systemd/system/forebay.service").status.success());
    assert_eq!(machine.run(&format!("tail -1 {}", kind.left)), "# of the administrator");
    machine.run("test -s /etc/forebay/keys/default && test -d /var/lib/forebay/spool");
}

#[test]
fn a_deb_is_installed_started_upgraded_and_removed_and_what_is_the_administrator_s_stays() {
    let (Some(_), Some(machine)) = (installed("cargo-deb"), Machine::boot()) else { return };
    let packages = Packages::make("deb");
    life(&machine, [packages.of("-1_amd64.deb"), packages.of("-2_amd64.deb")], &DEB);
    machine.run("dpkg --purge forebay");
    machine.run("test -s /etc/forebay/keys/default && test -d /var/lib/forebay/spool");
}

#[test]
fn so_is_an_rpm() {
    let (Some(_), Some(_)) = (installed("cargo-generate-rpm"), installed("rpm")) else { return };
    let Some(machine) = Machine::boot() else { return };
    let packages = Packages::make("rpm");
    life(&machine, [packages.of("-1.x86_64.rpm"), packages.of("-2.x86_64.rpm")], &RPM);
}

#[test]
fn systemd_starts_a_relay_again_that_is_stuck() {
    let Some(machine) = Machine::boot() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    machine.copy(env!("CARGO_BIN_EXE_forebay").as_ref(), "/usr/bin/forebay");
    machine.copy(&root.join("deploy/systemd/forebay.service"), "/etc/systemd/system/forebay.service");
    machine.run("mkdir -p /etc/forebay/keys /etc/systemd/system/forebay.service.d");
    machine.write("/etc/systemd/system/forebay.service.d/soon.conf", "[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n");
    machine.run("umask 077; echo 0123456789abcdef > /etc/forebay/keys/default");
    machine.write("/etc/forebay/forebay.yaml", CONFIGURATION);
    machine.run("systemctl daemon-reload; systemctl start forebay");
    passes(&machine, "before", "-d");
    let first = process(&machine);
    machine.run(&format!("kill -STOP {first}"));
    eventually("another process", || {
        let now = process(&machine);
        let state = machine.output("systemctl is-active forebay").stdout;
        if now != first && now != "0" && state == b"active\n" { Ok(()) } else { Err(now) }
    });
    passes(&machine, "after", "-d");
    assert!(machine.run("journalctl --no-pager -u forebay").contains("Watchdog timeout"), "{}", machine.journal());
}
