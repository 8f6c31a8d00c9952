//! A machine with a real systemd: this machine's own root under an overlay in memory, booted by `systemd-nspawn`, with a network of
//! its own that has loopback only. What it writes is gone with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::installed;
use super::waiting::within;

/// Booting takes two seconds where nobody else is busy.
const BOOT_MAX: Duration = Duration::from_secs(60);

/// Its network never gets an address: nobody waits for one. The mounts are in a namespace of their own: they go with the last process in it. `$1` is an empty folder, the rest is for
/// systemd-nspawn.
const SCRIPT: &str = "set -e; at=$1; shift; mount -t tmpfs none \"$at\"; mkdir \"$at/upper\" \"$at/work\" \"$at/root\"; \
     mount -t overlay none -o \"lowerdir=/,upperdir=$at/upper,workdir=$at/work\" \"$at/root\"; \
     rm -f \"$at/root/etc/machine-id\"; \
     for unit in systemd-networkd NetworkManager; do \
     ln -sf /dev/null \"$at/root/etc/systemd/system/$unit-wait-online.service\"; done; \
     exec systemd-nspawn --quiet --register=no --keep-unit --private-network --directory=\"$at/root\" --boot \"$@\"";

/// Ends with this value.
pub struct Machine {
    nspawn: Child,
    /// Its process 1, as it is called here.
    init: u32,
    _folder: TempDir,
}

impl Machine {
    /// Boots; `None`, said, where this machine cannot have one.
    pub fn boot() -> Option<Self> {
        installed("systemd-nspawn")?;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let nspawn = Command::new("unshare")
            .args(["--mount", "--propagation=private", "bash", "-c", SCRIPT, "bash"])
            .arg(&root)
            .args(["--console=pipe", "systemd.unit=basic.target"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut machine = Self { nspawn, init: 0, _folder: folder };
        match within(BOOT_MAX, || machine.is_up()) {
            Ok(()) => Some(machine),
            Err(why) => {
                println!("skipped: no systemd boots here: {why}: {}", std::fs::read_to_string(&log).unwrap().trim());
                None
            }
        }
    }

    fn is_up(&mut self) -> Result<(), String> {
        if let Some(ended) = self.nspawn.try_wait().unwrap() {
            // Not worth a minute.
            self.init = u32::MAX;
            println!("systemd-nspawn: {ended}");
        }
        if self.init == u32::MAX {
            return Err("systemd-nspawn has ended".to_owned());
        }
        // `unshare` and `bash` have become systemd-nspawn.
        let id = self.nspawn.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let is_init = |child: &&str| {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            name.trim() == "systemd"
        };
        let init = children.split_whitespace().find(is_init).ok_or("it has no process 1 yet")?;
        self.init = init.parse().unwrap();
        let output = self.output("systemctl is-system-running");
        let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // Something of this machine's that does not start there is none of ours.
        if state == "running" || state == "degraded" { Ok(()) } else { Err(format!("its state is {state:?}")) }
    }

    /// Runs a line of the shell there.
    pub fn output(&self, line: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "bash", "-c", line]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The same; returns what it prints, and fails where it does.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let output = self.output(line);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}: {}\n{out}{err}{}", output.status, self.journal());
        out.trim().to_owned()
    }

    /// What its services have said.
    pub fn journal(&self) -> String {
        let output = self.output("journalctl --no-pager -n 40 -o cat -u 'forebay*'");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A file of this machine, in a folder that it does not share.
    pub fn copy(&self, from: &Path, to: &str) {
        let inside = PathBuf::from(format!("/proc/{}/root{to}", self.init));
        std::fs::copy(from, inside).unwrap();
    }

    pub fn write(&self, to: &str, text: &str) {
        std::fs::write(format!("/proc/{}/root{to}", self.init), text).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Process 1 takes all of its namespace with it.
        if (1..u32::MAX).contains(&self.init) {
            drop(Command::new("kill").args(["-KILL", &self.init.to_string()]).status());
        }
        drop(self.nspawn.kill());
        drop(self.nspawn.wait());
    }
}
