//! `forebay check --host`: what is said of machines that tables invent, and of this one, by the process.
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

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use forebay::config::{self, Config, Source};
use forebay::host::{self, Clock, Conntrack, Disk, Facts, Finding, Memory, Processors, Udp, Verdict};
use serde_json::Value;
use support::relay::remove_own_variables;

use Verdict::{Advice, Ok as Well, Problem, Unreadable};

/// Everything that is judged.
const CONFIGURATION: &str = "\
inputs:
  lan: {listen: ['udp://0.0.0.0:514', 'tcp://0.0.0.0:601'], max_connections: 2000}
  local: {listen: 'unixgram:///run/forebay/log'}
outputs: {sekoia: {region: fra1}}
routes: [{name: all, intake_key: abcdefgh12345678}]
spool: {dir: /var/lib/forebay, max_size: 10GiB, min_free: 256MiB}
cores: 2
";

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;

fn load(text: &str) -> Config {
    let source = Source::Text { name: "forebay.yaml".to_owned(), text: text.to_owned() };
    config::load(&source, &|_| None).unwrap_or_else(|report| panic!("{report}")).config
}

/// A machine that has all that the configuration needs.
fn machine() -> Facts {
    Facts {
        user: Some(990),
        capabilities: Some(CAP_NET_BIND_SERVICE),
        open_files: Some(524_288),
        sysctls: BTreeMap::from([
            ("fs.nr_open", 1 << 20),
            ("net.core.netdev_max_backlog", 10_000),
            ("net.core.rmem_max", 32 * MIB),
            ("net.core.somaxconn", 4_096),
            ("net.ipv4.ip_unprivileged_port_start", 1_024),
            ("net.unix.max_dgram_qlen", 512),
        ]),
        is_sysctl_read_only: false,
        receive_buffer: Some(32 * MIB),
        udp: Some(Udp { received: 1_000_000, ..Udp::default() }),
        softnet_dropped: Some(0),
        conntrack: Some(Conntrack { count: 100, max: 262_144, dropped: Some(0) }),
        clock: Some(Clock { now: Duration::from_secs(1_795_000_000), kept: Some((true, Duration::from_millis(20))) }),
        disk: Some(Disk {
            folder: "/var/lib/forebay".into(),
            free: 100 * GIB,
            used: 0,
            kind: Some("ext4".to_owned()),
            refused: None,
        }),
        memory: Memory { machine: Some(4 * GIB), limit: None },
        processors: Processors { usable: Some(4), limit: None },
    }
}

fn find(config: &str, facts: &Facts, subject: &str) -> Finding {
    let report = host::judge(&load(config), facts);
    let names: Vec<&str> = report.findings.iter().map(|finding| finding.subject).collect();
    report.findings.iter().find(|finding| finding.subject == subject).unwrap_or_else(|| panic!("{names:?}")).clone()
}

#[test]
fn a_machine_that_has_everything_needs_nothing() {
    let report = host::judge(&load(CONFIGURATION), &machine());
    let subjects: Vec<&str> = report.findings.iter().map(|finding| finding.subject).collect();
    let all = [
        "low_ports",
        "receive_buffer",
        "udp_counters",
        "packet_queue",
        "unix_datagram_queue",
        "accept_queue",
        "conntrack",
        "open_files",
        "clock",
        "spool_disk",
        "spool_file_system",
        "spool_folder",
        "memory",
        "processors",
    ];
    assert_eq!(subjects, all);
    for finding in &report.findings {
        assert!(finding.verdict == Well && finding.next.is_empty(), "{finding}");
        assert!(!finding.read.is_empty() && !finding.wanted.is_empty(), "{finding}");
    }
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let as_root = host::judge(&load(CONFIGURATION), &Facts { user: Some(0), ..machine() });
    assert!(as_root.notes[0].contains("as root"), "{:?}", as_root.notes);
}

/// A change to the machine, and what is to be said of it: the verdict, and parts of what is read and of the lines that change
/// it.
type Row = (&'static str, fn(&mut Facts), Verdict, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "low_ports",
        |facts| facts.capabilities = Some(0),
        Problem,
        &[
            "udp://0.0.0.0:514, tcp://0.0.0.0:601",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "setcap cap_net_bind_service=+ep",
            "sysctl -w net.ipv4.ip_unprivileged_port_start=514",
        ],
    ),
    ("low_ports", |facts| facts.capabilities = None, Unreadable, &["capabilities: not readable here"]),
    (
        "receive_buffer",
        |facts| {
            facts.receive_buffer = Some(425_984);
            facts.sysctls.insert("net.core.rmem_max", 212_992);
        },
        Problem,
        &[
            "208.0 KiB",
            "holds 416.0 KiB",
            "16.0 MiB for each UDP socket of lan",
            "sysctl -w net.core.rmem_max=16777216",
        ],
    ),
    (
        "receive_buffer",
        |facts| {
            facts.receive_buffer = Some(8 * MIB);
            facts.sysctls.insert("net.core.rmem_max", 4 * MIB);
        },
        Advice,
        &["holds 8.0 MiB", "net.core.rmem_max = 16777216` in /etc/sysctl.d/60-forebay.conf"],
    ),
    // What a socket was given says more than a file that a container does not show.
    (
        "receive_buffer",
        |facts| {
            facts.sysctls.remove("net.core.rmem_max");
            facts.receive_buffer = Some(425_984);
            facts.is_sysctl_read_only = true;
        },
        Problem,
        &["net.core.rmem_max is not readable here", "on the machine that runs this container"],
    ),
    (
        "receive_buffer",
        |facts| {
            facts.receive_buffer = None;
            facts.sysctls.insert("net.core.rmem_max", 212_992);
        },
        Problem,
        &["holds 416.0 KiB"],
    ),
    (
        "receive_buffer",
        |facts| {
            facts.receive_buffer = None;
            facts.sysctls.remove("net.core.rmem_max");
        },
        Unreadable,
        &[],
    ),
    (
        "receive_buffer",
        |facts| {
            facts.sysctls.insert("net.core.rmem_max", 212_992);
        },
        Well,
        &["by CAP_NET_ADMIN: a relay without it is held to net.core.rmem_max"],
    ),
    (
        "udp_counters",
        |facts| facts.udp = Some(Udp { received: 90, buffer_errors: 7, memory_errors: 2, checksum_errors: 1 }),
        Advice,
        &[
            "of 90 datagrams and 10 that",
            "7 met a full receive buffer",
            "nstat -az UdpRcvbufErrors",
            "udp_mem",
            "damaged",
        ],
    ),
    ("udp_counters", |facts| facts.udp = None, Unreadable, &["/proc/net/snmp: not readable here"]),
    (
        "packet_queue",
        |facts| {
            facts.softnet_dropped = Some(13);
            facts.sysctls.insert("net.core.netdev_max_backlog", 1_000);
        },
        Advice,
        &["13 packets", "net.core.netdev_max_backlog=4000"],
    ),
    ("packet_queue", |facts| facts.softnet_dropped = None, Unreadable, &[]),
    (
        "unix_datagram_queue",
        |facts| {
            facts.sysctls.insert("net.unix.max_dgram_qlen", 10);
        },
        Advice,
        &["is 10", "unixgram:///run/forebay/log", "net.unix.max_dgram_qlen=512"],
    ),
    (
        "accept_queue",
        |facts| {
            facts.sysctls.insert("net.core.somaxconn", 128);
            facts.is_sysctl_read_only = true;
        },
        Advice,
        &["is 128", "docker run --sysctl net.core.somaxconn=1024"],
    ),
    (
        "conntrack",
        |facts| facts.conntrack = Some(Conntrack { count: 65_000, max: 65_536, dropped: Some(0) }),
        Problem,
        &["(99 %)", "nf_conntrack_max=262144", "udp dport '{ 514 }' notrack"],
    ),
    (
        "conntrack",
        |facts| facts.conntrack = Some(Conntrack { count: 40_000, max: 65_536, dropped: None }),
        Advice,
        &["(61 %)", "not readable here"],
    ),
    (
        "conntrack",
        |facts| facts.conntrack = Some(Conntrack { count: 1, max: 65_536, dropped: Some(5) }),
        Advice,
        &["5 packets found none"],
    ),
    ("conntrack", |facts| facts.conntrack = None, Well, &["no such table here"]),
    (
        "conntrack",
        |facts| {
            facts.conntrack = None;
            facts.sysctls.clear();
        },
        Unreadable,
        &[],
    ),
    ("open_files", |facts| facts.open_files = Some(1_024), Advice, &["is 1024", "LimitNOFILE=2", "--ulimit nofile=2"]),
    (
        "open_files",
        |facts| {
            facts.open_files = Some(256);
            facts.sysctls.insert("fs.nr_open", 512);
        },
        Problem,
        &["sysctl -w fs.nr_open=2"],
    ),
    ("open_files", |facts| facts.open_files = None, Unreadable, &[]),
    (
        "clock",
        |facts| facts.clock = facts.clock.map(|clock| Clock { kept: Some((false, Duration::from_secs(16))), ..clock }),
        Advice,
        &["nothing keeps it in step", "timedatectl set-ntp true", "certificates are judged by it"],
    ),
    (
        "clock",
        |facts| facts.clock = facts.clock.map(|clock| Clock { kept: Some((true, Duration::from_secs(9))), ..clock }),
        Advice,
        &["wrong by 9.0 s", "UDP port 123"],
    ),
    (
        "clock",
        |facts| facts.clock = facts.clock.map(|clock| Clock { now: Duration::from_secs(77), ..clock }),
        Problem,
        &["it says 77 s since 1970", "date -s"],
    ),
    ("clock", |facts| facts.clock = facts.clock.map(|clock| Clock { kept: None, ..clock }), Unreadable, &["adjtimex"]),
    (
        "spool_disk",
        |facts| facts.disk.as_mut().unwrap().free = 5 * GIB,
        Advice,
        &[
            "5.0 GiB free",
            "10.0 GiB for /var/lib/forebay",
            "5.2 GiB more",
            // Five GiB less what is left to others.
            "max_size: 4864MiB",
            "senders wait and datagrams are lost",
        ],
    ),
    (
        "spool_disk",
        |facts| {
            facts.disk.as_mut().unwrap().free = 5 * GIB;
            facts.disk.as_mut().unwrap().used = 6 * GIB;
        },
        Well,
        &["6.0 GiB in the spool already"],
    ),
    ("spool_disk", |facts| facts.disk.as_mut().unwrap().free = 200 * MIB, Problem, &["200.0 MiB free"]),
    ("spool_disk", |facts| facts.disk = None, Unreadable, &["/var/lib/forebay: not readable here"]),
    (
        "spool_file_system",
        |facts| facts.disk.as_mut().unwrap().kind = Some("overlay".to_owned()),
        Problem,
        &["the container's own layer", "docker run -v"],
    ),
    ("spool_file_system", |facts| facts.disk.as_mut().unwrap().kind = Some("tmpfs".to_owned()), Problem, &["memory"]),
    ("spool_file_system", |facts| facts.disk.as_mut().unwrap().kind = Some("nfs4".to_owned()), Advice, &["local disk"]),
    (
        "spool_folder",
        |facts| {
            let disk = facts.disk.as_mut().unwrap();
            disk.folder = "/var/lib".into();
            disk.refused = Some("Permission denied (os error 13)".to_owned());
        },
        Problem,
        &["/var/lib cannot be written", "StateDirectory=forebay", "install -d -m 0700 -o forebay /var/lib/forebay"],
    ),
    (
        "memory",
        |facts| facts.memory.limit = Some((48 * MIB, "/sys/fs/cgroup/memory.max".into())),
        Problem,
        &["48.0 MiB (/sys/fs/cgroup/memory.max)", "64.0 MiB for the relay", "MemoryMax=128M", "max: 24MiB"],
    ),
    (
        "memory",
        |facts| facts.memory.limit = Some((100 * MIB, "/sys/fs/cgroup/memory.max".into())),
        Advice,
        &["64.0 MiB for the kernel's UDP buffers", "--memory 128m"],
    ),
    ("memory", |facts| facts.memory.limit = Some((1 << 62, "/unlimited".into())), Well, &["the machine has 4.0 GiB"]),
    (
        "memory",
        |facts| facts.memory = Memory::default(),
        Unreadable,
        &["/proc/meminfo and the control group's limit: not readable here"],
    ),
    (
        "processors",
        |facts| facts.processors.limit = Some((0.5, "/sys/fs/cgroup/cpu.max".into())),
        Advice,
        &["0.50 processors' worth", "cores: 1"],
    ),
    ("processors", |facts| facts.processors.limit = Some((1.5, "/sys/fs/cgroup/cpu.max".into())), Well, &[]),
    ("processors", |facts| facts.processors = Processors::default(), Unreadable, &[]),
];

#[test]
fn each_thing_that_is_missing_is_told_with_the_line_that_mends_it() {
    for (subject, change, verdict, parts) in ROWS {
        let mut facts = machine();
        change(&mut facts);
        let finding = find(CONFIGURATION, &facts, subject);
        let told = finding.to_string();
        assert_eq!(finding.verdict, *verdict, "{told}");
        assert_eq!(finding.next.is_empty(), matches!(verdict, Well | Unreadable), "{told}");
        for part in *parts {
            assert!(told.contains(part), "no {part:?} in\n{told}");
        }
        // Nothing else is touched by it: what is well stays well, but where one fact says something of several.
        let others = host::judge(&load(CONFIGURATION), &facts);
        let worse = others.findings.iter().filter(|other| other.verdict > Unreadable && other.subject != *subject);
        let worse: Vec<&str> = worse.map(|other| other.subject).collect();
        assert!(worse.is_empty(), "{subject}: {worse:?}");
    }
}

#[test]
fn only_what_the_configuration_needs_is_looked_at() {
    let small = "inputs: {local: {listen: 'unix:///run/forebay/log'}}\noutputs: {a: {to: 'tcp://127.0.0.1:9'}}\n\
                 routes: [{name: all, template: '%msg%'}]\ncores: 1\n";
    let report = host::judge(&load(small), &machine());
    let subjects: Vec<&str> = report.findings.iter().map(|finding| finding.subject).collect();
    assert_eq!(subjects, ["accept_queue", "open_files", "clock", "memory", "processors"]);
    assert!(!find(small, &machine(), "clock").wanted.contains("certificates"));

    // A buffer that is asked for and not given is no matter of taste.
    let asked = "inputs: {lan: {listen: 'udp://0.0.0.0:5514', receive_buffer: 64MiB}}\noutputs: {a: {to: 'tcp://127.0.0.1:9'}}\n\
                 routes: [{name: all, template: '%msg%'}]\n";
    let finding = find(asked, &machine(), "receive_buffer");
    assert_eq!(finding.verdict, Problem, "{finding}");
    assert!(finding.next[0].ends_with("net.core.rmem_max=67108864"), "{finding}");
    let ports = host::judge(&load(asked), &Facts { capabilities: Some(0), ..machine() });
    assert!(ports.findings.iter().all(|finding| finding.subject != "low_ports"), "{ports}");
    // A port that is low here is not where the machine begins later.
    let mut open = Facts { capabilities: Some(0), ..machine() };
    open.sysctls.insert("net.ipv4.ip_unprivileged_port_start", 0);
    let ports = host::judge(&load(CONFIGURATION), &open);
    assert!(ports.findings.iter().all(|finding| finding.subject != "low_ports"), "{ports}");
}

#[test]
fn a_machine_with_the_numbers_that_come_with_forebay_needs_no_others() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sysctl.d/50-forebay.conf");
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let numbers: BTreeMap<&str, u64> =
        lines.map(|line| line.split_once(" = ").unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect();
    // A kernel as it begins, and then with these numbers.
    let begins = [
        ("net.core.netdev_max_backlog", 1_000),
        ("net.core.rmem_max", 212_992),
        ("net.core.somaxconn", 128),
        ("net.unix.max_dgram_qlen", 10),
    ];
    let wanting = |facts: &Facts| -> Vec<&str> {
        let findings = host::judge(&load(CONFIGURATION), facts).findings;
        findings.iter().filter(|finding| finding.verdict > Unreadable).map(|finding| finding.subject).collect()
    };
    let mut facts = Facts { receive_buffer: None, ..machine() };
    facts.sysctls.extend(begins);
    assert_eq!(wanting(&facts), ["receive_buffer", "unix_datagram_queue", "accept_queue"]);
    for (name, begun) in begins {
        let number = *numbers.get(name).unwrap_or_else(|| panic!("{name} is not in deploy/sysctl.d"));
        assert!(number > begun, "{name}");
        facts.sysctls.insert(name, number);
    }
    assert_eq!(wanting(&facts), [""; 0]);
    assert_eq!(
        numbers.len(),
        begins.len(),
        "what else is in deploy/sysctl.d is for check --host to judge: {numbers:?}"
    );
}

/// Runs `forebay check --host` by what `wrap` makes of the program's path.
fn check_by(config: &Path, arguments: &[&str], wrap: impl FnOnce(&str) -> Command) -> Output {
    let mut command = wrap(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    command.arg("check").arg("-c").arg(config).arg("--host").args(arguments).output().unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> (Self, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let file = folder.path().join("forebay.yaml");
        std::fs::write(&file, text.replace("/var/lib/forebay", &folder.path().join("spool").display().to_string()))
            .unwrap();
        (Self(folder), file)
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Findings by subject.
fn findings(output: &Output) -> BTreeMap<String, Value> {
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr));
    });
    let findings = found["host"]["findings"].as_array().unwrap();
    let problems = findings.iter().filter(|finding| finding["verdict"] == "problem").count();
    assert_eq!(found["host"]["problems"], problems);
    assert_eq!(output.status.code(), Some(i32::from(problems > 0)), "{found:#}");
    findings.iter().map(|finding| (finding["subject"].as_str().unwrap().to_owned(), finding.clone())).collect()
}

#[test]
fn this_machine_is_read_and_told_to_people_and_to_programs() {
    let (folder, file) = Folder::new(CONFIGURATION);
    let output = check_by(&file, &["--json"], |program| Command::new(program));
    let found = findings(&output);
    assert!(found.len() >= 13, "{found:#?}");
    // What every Linux with a procfs says.
    let ceiling = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
    let read = |subject: &str| found[subject]["read"].as_str().unwrap().to_owned();
    assert!(read("open_files").contains(&format!("fs.nr_open is {}", ceiling.trim())), "{}", read("open_files"));
    assert!(read("udp_counters").starts_with("of "), "{}", read("udp_counters"));
    assert!(read("spool_disk").contains(&folder.0.path().display().to_string()), "{}", read("spool_disk"));
    assert!(!folder.0.path().join("spool").exists(), "a check makes nothing");

    let human = check_by(&file, &[], |program| Command::new(program));
    let told = text(&human.stdout);
    assert_eq!(human.status.code(), output.status.code());
    for part in ["open files: ", "  wanted: ", "receive buffer: ", "clock: "] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("abcdefgh12345678") && !text(&human.stderr).contains("abcdefgh12345678"));
}

#[test]
fn limits_of_the_process_are_what_it_is_judged_by() {
    let (_folder, file) = Folder::new(CONFIGURATION);
    let output = check_by(&file, &["--json"], |program| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 300; exec \"$0\" \"$@\"", program]);
        command
    });
    let found = findings(&output);
    assert_eq!(found["open_files"]["verdict"], "problem", "{found:#?}");
    assert!(found["open_files"]["read"].as_str().unwrap().contains("is 300;"), "{found:#?}");
    assert_eq!(output.status.code(), Some(1));
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

#[test]
fn a_user_without_privileges_is_told_which_it_lacks() {
    if !is_root() {
        println!("skipped: only root becomes another user");
        return;
    }
    let (folder, file) = Folder::new(CONFIGURATION);
    // The folder of the build may be closed to others.
    let program = folder.0.path().join("forebay");
    std::fs::copy(env!("CARGO_BIN_EXE_forebay"), &program).unwrap();
    let output = check_by(&file, &["--json"], |_| {
        let mut command = Command::new(&program);
        command.uid(65_534).gid(65_534);
        command
    });
    let found = findings(&output);
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first.trim().parse::<u16>().unwrap() > 601 {
        assert_eq!(found["low_ports"]["verdict"], "problem", "{found:#?}");
    }
    assert_eq!(found["spool_folder"]["verdict"], "problem", "{found:#?}");
    let max: u64 = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
    assert_eq!(found["receive_buffer"]["verdict"] == "ok", max * 2 >= 16 * MIB, "{found:#?}");
}

#[test]
fn in_an_empty_root_nothing_is_guessed() {
    if !is_root() {
        println!("skipped: only root may change its root");
        return;
    }
    let (folder, file) = Folder::new(CONFIGURATION);
    let program = env!("CARGO_BIN_EXE_forebay");
    // The program, what it is linked with, and nothing else: no /proc, no /sys.
    let linked = text(&Command::new("ldd").arg(program).output().unwrap().stdout);
    let libraries: Vec<&str> = linked.split_whitespace().filter(|word| word.starts_with('/')).collect();
    for library in &libraries {
        let to = folder.0.path().join(library.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(library, to).unwrap();
    }
    std::fs::copy(program, folder.0.path().join("forebay")).unwrap();
    let inside = std::fs::read_to_string(&file).unwrap().replace(&folder.0.path().display().to_string(), "");
    std::fs::write(&file, inside).unwrap();
    let output = check_by(Path::new("/forebay.yaml"), &["--json"], |_| {
        let mut command = Command::new("chroot");
        command
            .arg("--userspec=65534:65534")
            .arg(folder.0.path())
            .arg("/forebay")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin");
        command
    });
    let found = findings(&output);
    for subject in
        ["low_ports", "udp_counters", "packet_queue", "unix_datagram_queue", "accept_queue", "conntrack", "memory"]
    {
        assert_eq!(found[subject]["verdict"], "unreadable", "{subject}: {found:#?}");
        assert!(found[subject]["read"].as_str().unwrap().ends_with("not readable here"), "{found:#?}");
    }
    // What the kernel answers without a file.
    for subject in ["open_files", "receive_buffer", "clock", "spool_disk", "processors"] {
        assert_ne!(found[subject]["verdict"], "unreadable", "{subject}: {found:#?}");
    }
}

#[test]
fn asking_for_json_without_looking_is_a_mistake() {
    let (_folder, file) = Folder::new(CONFIGURATION);
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    remove_own_variables(&mut command);
    let output = command.arg("check").arg("-c").arg(&file).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
}
