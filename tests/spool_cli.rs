//! `forebay spool`: the real binary on real spools, with and without a relay that holds them.
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

#[path = "spool_cli/held.rs"]
mod held;
#[path = "support/harness.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use forebay::batch::Batch;
use forebay::config::{Compression, SpoolFull, SpoolKey};
use forebay::spool::block::{LaneName, Meta};
use forebay::spool::records;
use forebay::spool::store::{Options, Store};
use forebay::syslog::{self, Clock, Message};
use serde_json::Value;

/// Noon of 2020-11-22.
const NOON_US: i64 = 1_606_046_400_000_000;
const MINUTE_US: i64 = 60_000_000;

/// A spool of its own for each test.
struct Spool {
    dir: tempfile::TempDir,
    key: Option<SpoolKey>,
}

impl Spool {
    /// Three lanes: `web` of two shards, and `firewall`; a minute between any two messages.
    fn new() -> Self {
        let spool = Self::empty(None);
        let mut store = Store::open(spool.options()).expect("it opens");
        let web = ["<30>Nov 22 12:00:00 web-1 nginx[7]: one", "<30>Nov 22 12:01:00 web-1 nginx[7]: two"];
        append(&mut store, "web", 0, &web);
        append(&mut store, "web", 1, &["<30>1 2020-11-22T12:02:00Z web-2 nginx 8 ID [a@1 b=\"c\"] three"]);
        append(&mut store, "firewall", 0, &["<4>Nov 22 12:03:00 fw-1 kernel: IN=eth0 gr\u{fc}n \u{9b}31m"]);
        store.close().expect("it closes");
        spool
    }

    fn empty(key: Option<SpoolKey>) -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), key }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn options(&self) -> Options {
        Options {
            dir: self.path(),
            max_size: 1 << 30,
            when_full: SpoolFull::Block,
            min_free: 0,
            compression: Compression::None,
            encryption_key: self.key.clone(),
            shares: Default::default(),
            segment_bytes: 1 << 20,
            reserve_bytes: 0,
        }
    }

    /// Runs `forebay spool COMMAND --dir … ARGS`.
    fn run(&self, command: &str, args: &[&str]) -> Ran {
        self.run_with(command, args, b"")
    }

    fn run_with(&self, command: &str, args: &[&str], input: &[u8]) -> Ran {
        let path = self.path();
        let place = ["spool", command, "--dir", path.to_str().expect("text")];
        run(&[&place, args].concat(), input)
    }

    fn only_segment(&self) -> PathBuf {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path().join("segments")).expect("segments").map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0));
        files.sort();
        files[0].clone()
    }
}

/// Appends one block. The messages' minutes of reception are those of their stamps.
fn append(store: &mut Store, route: &str, shard: u16, messages: &[&str]) {
    let lane = LaneName { route: route.to_owned(), shard };
    let mut batch = Batch::default();
    let inputs = ["lan".to_owned()];
    let mut received = Vec::new();
    for message in messages {
        let frame: Vec<u8> = message.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect();
        let mut scratch = Vec::new();
        let raw = syslog::sanitize(&frame, &mut scratch);
        let clock = Clock { now_us: NOON_US, year: 2020, month: 11, day: 22, offset_minutes: 0 };
        let fields = syslog::parse(raw, &clock);
        let minute = fields.timestamp.map_or(0, |stamp| i64::from(stamp.minute));
        let received_at_us = NOON_US + minute * MINUTE_US;
        received.push(received_at_us);
        let peer = Some("192.0.2.7".parse().unwrap());
        batch.push(&Message { fields: &fields, raw, received_at_us, peer, input: "lan" }, 0);
    }
    let mut plain = Vec::new();
    records::encode(&batch, &inputs, &mut plain);
    let (oldest_us, newest_us) = (*received.iter().min().unwrap(), *received.iter().max().unwrap());
    let seq = store.last_seq(&lane).next(newest_us, usize::from(shard));
    store.append(&lane, Meta { seq, records: batch.len() as u32, oldest_us, newest_us }, &plain).expect("appended");
    store.sync().expect("synced");
}

/// What a command did.
struct Ran {
    code: i32,
    out: String,
    err: String,
    bytes: Vec<u8>,
}

fn run(args: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(args)
        .env_remove("FOREBAY_CONFIG")
        .env_remove("FOREBAY_INTAKE_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A command that ends without reading its input is no fault of ours.
    let writer = thread::spawn(move || stdin.write_all(&input).is_ok());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    Ran {
        code: status.code().expect("an exit code"),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
        bytes: stdout,
    }
}

impl Ran {
    /// It ended with 0, and had nothing to complain of.
    #[track_caller]
    fn well(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self
    }

    /// It ended with `code`, and said why.
    #[track_caller]
    fn ended(self, code: i32, why: &str) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(why), "{why}: {}", self.err);
        self
    }

    fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The last words of what `cat` shows: one for each message.
fn words(ran: &Ran) -> Vec<&str> {
    ran.lines().iter().map(|line| line.rsplit(' ').next().unwrap()).collect()
}

#[test]
fn stat_counts_what_is_spooled_by_route() {
    let spool = Spool::new();
    let table = spool.run("stat", &[]).well();
    let web = table.lines().into_iter().find(|line| line.starts_with("web")).expect("a row").to_owned();
    assert_eq!(web.split_whitespace().take(3).collect::<Vec<_>>(), ["web", "2", "3"], "{}", table.out);
    assert!(table.out.contains("held by nobody"), "{}", table.out);

    let json = spool.run("stat", &["--json"]).well().json().remove(0);
    assert_eq!(json["held_by"], Value::Null);
    assert_eq!(json["routes"].as_array().map(Vec::len), Some(2));
    let firewall = &json["routes"][0];
    assert_eq!((&firewall["name"], &firewall["messages"]), (&"firewall".into(), &1.into()));
    assert_eq!(firewall["oldest"], "2020-11-22T12:03:00.000000Z");
    assert_eq!(firewall["orphan"], Value::Null, "no configuration, no orphans");
    assert!(json["bytes"].as_u64() > Some(0) && json["disk_free"].as_u64() > Some(0), "{json}");
}

#[test]
fn ls_lists_blocks_in_order_and_by_route_and_time() {
    let spool = Spool::new();
    let places = |args: &[&str]| -> Vec<(String, u64, u64)> {
        let ran = spool.run("ls", &[&["--json"], args].concat()).well();
        let place = |block: &Value| {
            let number = |key: &str| block[key].as_u64().expect("a number");
            (block["route"].as_str().expect("a name").to_owned(), number("shard"), number("messages"))
        };
        ran.json().iter().map(place).collect()
    };
    let (firewall, web_0, web_1) = (("firewall".to_owned(), 0, 1), ("web".to_owned(), 0, 2), ("web".to_owned(), 1, 1));
    assert_eq!(places(&[]), [firewall.clone(), web_0.clone(), web_1.clone()]);
    assert_eq!(places(&["--route", "web"]), [web_0.clone(), web_1.clone()]);
    assert_eq!(places(&["--route", "web", "--route", "firewall"]).len(), 3);
    assert_eq!(places(&["--route", "nobody"]), []);
    assert_eq!(places(&["--since", "2020-11-22T12:01:00Z"]), [firewall, web_0.clone(), web_1]);
    assert_eq!(places(&["--until", "2020-11-22T12:00:00.000001Z"]), [web_0]);
    assert_eq!(places(&["--until", "2020-11-22T12:00:00Z"]), []);
    assert_eq!(spool.run("ls", &[]).well().lines().len(), 3);
}

#[test]
fn cat_shows_messages_and_nothing_that_acts_on_a_terminal() {
    let spool = Spool::new();
    let all = spool.run("cat", &[]).well();
    assert_eq!(
        all.lines(),
        [
            "2020-11-22T12:03:00.000000Z 192.0.2.7 fw-1 kernel: IN=eth0 gr\u{fffd}n \u{fffd}31m",
            "2020-11-22T12:00:00.000000Z 192.0.2.7 web-1 nginx: one",
            "2020-11-22T12:01:00.000000Z 192.0.2.7 web-1 nginx: two",
            "2020-11-22T12:02:00.000000Z 192.0.2.7 web-2 nginx: three",
        ]
    );
    // Of a block that begins earlier, the messages of that time only.
    let some = spool.run("cat", &["--since", "2020-11-22T12:01:00Z", "--until", "2020-11-22T12:03:00Z"]).well();
    assert_eq!(words(&some), ["two", "three"]);
    let none = spool.run("cat", &["--since", "1m"]).well();
    assert_eq!(none.out, "");
}

#[test]
fn json_goes_out_and_comes_back_as_it_was() {
    let from = Spool::new();
    let exported = from.run("export", &["--format", "json"]).well();
    assert_eq!(exported.lines().len(), 4);
    let firewall = exported.json().remove(0);
    assert_eq!(firewall["route"], "firewall");
    assert!(firewall["raw"].is_null() && firewall["raw_base64"].is_string(), "it is no UTF-8: {firewall}");
    assert_eq!(from.run("cat", &[]).well().lines().len(), 4, "nothing was taken out");

    let to = Spool::empty(None);
    drop(Store::open(to.options()).expect("it opens"));
    let imported = to.run_with("import", &[], &exported.bytes).well();
    assert_eq!(imported.lines(), ["firewall: imported 1 messages", "web: imported 3 messages"]);
    assert_eq!(to.run("export", &["--format", "json"]).well().out, exported.out);

    // For another route, from a file, behind what is there.
    let file = to.dir.path().join("exported.jsonl");
    fs::write(&file, &exported.bytes).expect("written");
    to.run("import", &["--route", "other", file.to_str().unwrap()]).well();
    to.run("import", &["--route", "other", file.to_str().unwrap()]).well();
    let other = to.run("cat", &["--route", "other"]).well();
    assert_eq!(words(&other), ["\u{fffd}31m", "one", "two", "three", "\u{fffd}31m", "one", "two", "three"]);
}

#[test]
fn rfc5424_goes_out_and_comes_back_in_both_framings() {
    let from = Spool::new();
    let counted = from.run("export", &["--format", "rfc5424", "--route", "web"]).well();
    let expected = [
        "<30>1 2020-11-22T12:00:00+00:00 web-1 nginx 7 - -  one",
        "<30>1 2020-11-22T12:01:00+00:00 web-1 nginx 7 - -  two",
        "<30>1 2020-11-22T12:02:00Z web-2 nginx 8 ID [a@1 b=\"c\"] three",
    ];
    let frame = |message: &&str| format!("{} {message}", message.len());
    assert_eq!(counted.out, expected.iter().map(frame).collect::<String>());
    let lines = from.run("export", &["--format", "rfc5424", "--framing", "lf", "--route", "web"]).well();
    assert_eq!(lines.lines(), expected);
    for exported in [&counted.bytes, &lines.bytes] {
        let to = Spool::empty(None);
        drop(Store::open(to.options()).expect("it opens"));
        let args = ["--format", "rfc5424", "--route", "again"];
        assert_eq!(to.run_with("import", &args, exported).well().out, "again: imported 3 messages\n");
        assert_eq!(words(&to.run("cat", &[]).well()), ["one", "two", "three"]);
        assert_eq!(&to.run("export", &["--format", "rfc5424"]).well().bytes, &counted.bytes);
        to.run_with("import", &["--format", "rfc5424"], exported).ended(64, "--route NAME");
    }
}

#[test]
fn an_exported_file_is_private_and_never_written_over() {
    let spool = Spool::new();
    let file = spool.dir.path().join("out.jsonl");
    let args = ["--format", "json", "--output", file.to_str().unwrap()];
    let ran = spool.run("export", &args).ended(0, "4 messages exported");
    assert_eq!(ran.out, "");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&file).expect("text").lines().count(), 4);
    spool.run("export", &args).ended(1, "not written over");
}

#[test]
fn lines_that_are_no_messages_are_told_and_the_others_imported() {
    let spool = Spool::empty(None);
    drop(Store::open(spool.options()).expect("it opens"));
    let lines =
        b"{\"route\":\"a\",\"raw\":\"<13>h p: one\"}\n\nnonsense\n{\"raw\":\"b\"}\n{\"route\":\"\",\"raw\":\"c\"}\n\
                  {\"route\":\"a\",\"raw\":\"<13>h p: two\"}";
    let ran = spool.run_with("import", &[], lines).ended(1, "3 of what was read are no messages");
    assert_eq!(ran.out, "a: imported 2 messages\n");
    for told in ["line 3: not a JSON object", "line 4: it names no route", "line 5: a route's name is not empty"] {
        assert!(ran.err.contains(told), "{told}: {}", ran.err);
    }
    assert_eq!(words(&spool.run("cat", &[]).well()), ["one", "two"]);
}

#[test]
fn verify_finds_damage_and_says_where() {
    let spool = Spool::new();
    let whole = spool.run("verify", &[]).well();
    assert!(whole.out.contains("3 blocks with 4 messages"), "{}", whole.out);
    assert!(whole.out.contains(" 0 places damaged"), "{}", whole.out);

    let path = spool.only_segment();
    let mut octets = fs::read(&path).expect("octets");
    let at = octets.windows(3).position(|window| window == b"two").expect("uncompressed");
    octets[at] ^= 1;
    fs::write(&path, &octets).expect("written");
    let damaged = spool.run("verify", &[]);
    assert_eq!((damaged.code, damaged.err.as_str()), (1, ""), "{}", damaged.out);
    assert!(damaged.out.contains(&format!("{}: at 0: ", path.display())), "{}", damaged.out);
    assert!(damaged.out.contains("2 messages of web"), "{}", damaged.out);
    assert!(damaged.out.contains("2 blocks with 2 messages"), "{}", damaged.out);
    assert!(damaged.out.contains(" 1 places damaged"), "{}", damaged.out);

    // What can be read is shown.
    let rest = spool.run("cat", &["--route", "web"]).ended(1, "2 messages of web cannot be read");
    assert_eq!(words(&rest), ["three"]);
}

#[test]
fn verify_tells_a_torn_tail_and_holes_from_damage() {
    let spool = Spool::new();
    let path = spool.only_segment();
    let octets = fs::read(&path).expect("octets");
    // As if the first blocks were released, and the last were being written.
    let last = octets.windows(8).rposition(|window| window == forebay::spool::block::MAGIC).expect("a block");
    let mut torn = vec![0; last];
    torn.extend_from_slice(&octets[last..]);
    torn.extend_from_slice(&octets[..50]);
    fs::write(&path, &torn).expect("written");
    let ran = spool.run("verify", &[]).well();
    assert!(ran.out.contains("1 blocks with 1 messages"), "{}", ran.out);

    fs::write(&path, [&torn[..], b"garbage", &octets[..]].concat()).expect("written");
    let ran = spool.run("verify", &[]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("4 blocks with 5 messages"), "{}", ran.out);
}

#[test]
fn repair_makes_a_lost_index_again() {
    let spool = Spool::new();
    fs::remove_dir_all(spool.path().join("index")).expect("removed");
    let ran = spool.run("repair", &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("the index is whole: 4 messages"), "{}", ran.out);
    assert_eq!(spool.run("cat", &[]).well().lines().len(), 4);
}

#[test]
fn drop_wants_to_be_meant() {
    let spool = Spool::new();
    spool.run("drop", &["--yes"]).ended(64, "--route NAME");
    spool.run("drop", &["--route", "web"]).ended(64, "--yes");
    spool.run("drop", &["--all", "--route", "web", "--yes"]).ended(64, "cannot be used with");
    assert_eq!(spool.run("cat", &[]).well().lines().len(), 4);
}

#[test]
fn drop_takes_the_blocks_that_lie_wholly_in_the_range() {
    let spool = Spool::new();
    let until = ["--route", "web", "--until", "2020-11-22T12:01:00Z", "--yes"];
    assert_eq!(
        spool.run("drop", &until).well().out,
        "nothing was dropped: no block lies wholly in what was selected\n"
    );
    let since = ["--route", "web", "--since", "2020-11-22T12:01:00Z", "--yes"];
    assert_eq!(spool.run("drop", &since).well().out, "web: dropped 1 messages in 1 blocks\n");
    assert_eq!(words(&spool.run("cat", &["--route", "web"]).well()), ["one", "two"]);
    let all = spool.run("drop", &["--all", "--yes"]).well();
    assert_eq!(all.lines(), ["firewall: dropped 1 messages in 1 blocks", "web: dropped 2 messages in 1 blocks"]);
    assert_eq!(spool.run("cat", &[]).well().out, "");
    spool.run("verify", &[]).well();
}

#[test]
fn an_encrypted_spool_is_read_with_its_key_only() {
    let key = [7; 32];
    let spool = Spool::empty(Some(SpoolKey::new(key)));
    let mut store = Store::open(spool.options()).expect("it opens");
    append(&mut store, "web", 0, &["<30>Nov 22 12:00:00 web-1 nginx[7]: secret"]);
    store.close().expect("it closes");
    spool.run("cat", &[]).ended(1, "--encryption-key-file");
    spool.run("verify", &[]).ended(0, "of 1 blocks only the checksums were looked at");
    let file = spool.dir.path().join("key");
    for text in [&key[..], "07".repeat(32).as_bytes()] {
        fs::write(&file, text).expect("written");
        let args = ["--encryption-key-file", file.to_str().unwrap()];
        assert_eq!(words(&spool.run("cat", &args).well()), ["secret"]);
        spool.run("verify", &args).well();
    }
    fs::write(&file, "08".repeat(32)).expect("written");
    let other = ["--encryption-key-file", file.to_str().unwrap()];
    assert_eq!(spool.run("cat", &other).ended(1, "1 blocks were encrypted with another key").out, "");
    spool.run("verify", &other).ended(0, "of 1 blocks only the checksums were looked at");
    fs::write(&file, "too short").expect("written");
    spool.run("cat", &["--encryption-key-file", file.to_str().unwrap()]).ended(1, "expected 32 octets");
}

#[test]
fn a_folder_without_a_spool_is_said_to_be_none_and_stays_as_it_is() {
    let spool = Spool::empty(None);
    for command in ["stat", "ls", "cat", "verify", "repair"] {
        spool.run(command, &[]).ended(1, "no spool is in");
    }
    spool.run("export", &["--format", "json"]).ended(1, "no spool is in");
    spool.run("import", &[]).ended(1, "no spool is in");
    spool.run("drop", &["--all", "--yes"]).ended(1, "no spool is in");
    assert!(!spool.path().exists());
    run(&["spool", "stat"], b"").ended(78, "--dir DIR");
}

/// A configuration with this spool, and a route `web`.
fn configuration(spool: &Spool) -> String {
    let file = spool.dir.path().join("forebay.yaml");
    let text = format!(
        "inputs: {{in: {{listen: ['udp://127.0.0.1:0']}}}}\noutputs: {{out: {{to: 'tcp://127.0.0.1:9'}}}}\n\
         routes: [{{name: web, intake_key: 0123456789abcdef}}, {{name: firewall, discard: true}}]\n\
         spool: {{dir: {}, max_size: 1GiB}}\n",
        spool.path().display()
    );
    fs::write(&file, text).expect("written");
    file.to_str().expect("text").to_owned()
}

#[test]
fn a_route_that_left_the_configuration_is_told_and_its_messages_move_to_another() {
    let spool = Spool::new();
    let config = configuration(&spool);
    let stat = run(&["spool", "stat", "-c", &config], b"").well();
    let row = |name: &str| stat.lines().into_iter().find(|line| line.starts_with(name)).expect("a row").to_owned();
    assert!(row("firewall").ends_with("orphan") && !row("web").contains("orphan"), "{}", stat.out);
    assert!(stat.out.contains(" of 1GiB on the disk") && stat.out.contains("import them with --route"), "{}", stat.out);
    let json = run(&["spool", "stat", "-c", &config, "--json"], b"").well().json().remove(0);
    assert_eq!((&json["routes"][0]["orphan"], &json["routes"][1]["orphan"]), (&true.into(), &false.into()));
    assert_eq!(json["max_size"], 1 << 30);

    let args = ["spool", "export", "-c", &config, "--route", "firewall", "--format", "json"];
    let exported = run(&args, b"").well();
    run(&["spool", "import", "-c", &config, "--route", "web"], &exported.bytes).well();
    run(&["spool", "drop", "-c", &config, "--route", "firewall", "--yes"], b"").well();
    let stat = run(&["spool", "stat", "-c", &config], b"").well();
    assert!(!stat.out.contains("orphan"), "{}", stat.out);
    assert_eq!(words(&spool.run("cat", &["--route", "web"]).well()), ["one", "two", "three", "\u{fffd}31m"]);
    let told = run(&["spool", "import", "-c", &config, "--route", "firewall"], &exported.bytes);
    told.ended(0, "nothing sends these messages until one has");
}

#[test]
fn a_configuration_that_does_not_load_or_has_no_spool_says_how_to_go_on() {
    let spool = Spool::new();
    let config = configuration(&spool);
    let text = fs::read_to_string(&config).expect("text");
    fs::write(&config, text.replace("0123456789abcdef", "${NOT_SET_HERE}")).expect("written");
    run(&["spool", "stat", "-c", &config], b"").ended(78, "name it with --dir DIR");
    run(&["spool", "stat", "-c", &config, "--dir", spool.path().to_str().unwrap()], b"").well();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("spool:")).collect();
    fs::write(&config, without.join("\n")).expect("written");
    run(&["spool", "stat", "-c", &config], b"").ended(78, "the configuration has no spool");
}

#[test]
fn what_no_route_of_the_configuration_takes_is_not_sent_and_is_told_of() {
    let spool = Spool::new();
    let collector = support::collector::Collector::start_plain();
    let config = spool.dir.path().join("send.yaml");
    let text = format!(
        "inputs: {{lan: {{listen: 'udp://127.0.0.1:0'}}}}\noutputs: {{o: {{to: 'tcp://{}'}}}}\ncores: 1\n\
         routes: [{{name: web, intake_key: 0123456789abcdef}}]\n",
        collector.address
    );
    fs::write(&config, text).expect("written");
    let config = config.to_str().unwrap();
    spool.run("send", &["-c", config]).ended(1, "firewall: 1 messages stay");
    assert_eq!(collector.wait_for_messages(3), ["one", "three", "two"]);
    let left = spool.run("stat", &["--json"]).well();
    let left: Value = serde_json::from_str(&left.out).expect("JSON");
    assert_eq!((&left["routes"][0]["name"], &left["routes"][0]["messages"]), (&"firewall".into(), &1.into()));
    assert_eq!(left["routes"].as_array().map(Vec::len), Some(1));
}

#[test]
fn whoever_has_read_enough_ends_it_without_a_complaint() {
    let spool = Spool::new();
    for command in [&["cat"][..], &["ls"], &["export", "--format", "json"]] {
        let path = spool.path();
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["spool", command[0], "--dir", path.to_str().unwrap()])
            .args(&command[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
        assert_eq!((status.code(), String::from_utf8_lossy(&stderr).as_ref()), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn every_example_in_the_help_is_a_command_that_is_understood() {
    let mut definition = forebay::cli::definition();
    let spool = definition.find_subcommand_mut("spool").expect("a command");
    let helps: Vec<(String, String)> = spool
        .get_subcommands_mut()
        .map(|command| (command.get_name().to_owned(), command.render_long_help().to_string()))
        .collect();
    assert_eq!(helps.len(), 9);
    for (name, help) in helps {
        let examples: Vec<&str> =
            help.lines().map(str::trim).filter(|line| line.starts_with("forebay spool ")).collect();
        assert!(examples.len() >= 2, "{name}: {help}");
        for example in examples {
            let words = example.split('|').next().unwrap_or_default().split_whitespace();
            let matches = forebay::cli::definition().try_get_matches_from(words);
            assert!(matches.is_ok(), "{example}: {:?}", matches.err());
            assert!(example.starts_with(&format!("forebay spool {name} ")), "{example}");
        }
    }
}

#[test]
fn help_fits_a_terminal() {
    let ran = run(&["spool", "export", "--help"], b"").well();
    assert!(ran.lines().iter().all(|line| line.chars().count() <= 120), "{}", ran.out);
}
