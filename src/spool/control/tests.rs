use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use super::serve::serve_within;
use super::*;

/// Long enough for any machine; no test waits for it.
const LONG: Duration = Duration::from_secs(60);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn block(seq: u64) -> Block {
    Block {
        route: "web".to_owned(),
        shard: 3,
        seq,
        records: 2,
        oldest_us: -1,
        newest_us: i64::MAX,
        segment: 7,
        offset: 1 << 40,
        length: 99,
    }
}

/// Listens, and answers with what `answer` says; gives the questions back when all is over.
fn answering(dir: &Path, answer: impl Fn(&Op) -> Answer + Send, ask: impl FnOnce()) -> Vec<Op> {
    let (requests_tx, requests_rx) = channel::bounded::<Request>(1);
    let server = serve(dir, requests_tx).expect("a socket");
    std::thread::scope(|scope| {
        let desk = scope.spawn(move || {
            let mut seen = Vec::new();
            for request in requests_rx {
                let answered = answer(&request.op);
                seen.push(request.op);
                request.reply.send(answered).expect("somebody waits");
            }
            seen
        });
        ask();
        drop(server);
        desk.join().expect("it ends when the server does")
    })
}

#[test]
fn every_question_and_every_answer_crosses_the_socket() {
    let dir = folder();
    let select = Select { routes: vec!["web".to_owned(), "\"ü\n".to_owned()], since_us: Some(-5), until_us: None };
    let stat = Stat {
        rebuilding: true,
        bytes: u64::MAX,
        lanes: vec![Lane { route: "web".to_owned(), oldest_us: Some(1), ..Lane::default() }],
        ..Stat::default()
    };
    let dropped = Dropped { route: "web".to_owned(), blocks: 1, records: 2, out: 3 };
    let plain: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let import = Op::Import { route: "web".to_owned(), records: 4, oldest_us: i64::MIN, newest_us: i64::MAX, plain };
    let rows = [
        (Op::Stat, Answer::Stat(stat)),
        (
            Op::List { select: select.clone(), after: Some(block(u64::MAX).place()), max: PAGE_MAX },
            Answer::Blocks((0..PAGE_MAX as u64).map(block).collect()),
        ),
        (Op::List { select: Select::default(), after: None, max: 1 }, Answer::Blocks(Vec::new())),
        (Op::Drop { select }, Answer::Dropped(vec![dropped])),
        (Op::Drop { select: Select::default() }, Answer::Dropped(Vec::new())),
        (Op::Rebuild, Answer::Failed("it \"cannot\" be".to_owned())),
        (import, Answer::Done),
        (Op::Sync, Answer::Done),
    ];
    let answer = |op: &Op| rows.iter().find(|(asked, _)| asked == op).expect("a known question").1.clone();
    let seen = answering(dir.path(), answer, || {
        for (op, answer) in &rows {
            assert_eq!(&ask(dir.path(), op.clone()).expect("an answer"), answer);
        }
    });
    assert_eq!(seen, rows.iter().map(|(op, _)| op.clone()).collect::<Vec<_>>());
}

#[test]
fn only_the_owner_may_use_the_socket_and_it_goes_with_its_server() {
    let dir = folder();
    let path = dir.path().join(SOCKET);
    // A relay that was killed left one.
    drop(UnixListener::bind(&path).expect("a socket"));
    answering(
        dir.path(),
        |_| Answer::Done,
        || {
            let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(ask(dir.path(), Op::Sync).expect("an answer"), Answer::Done);
        },
    );
    assert!(!path.exists());
    assert!(ask(dir.path(), Op::Sync).is_err(), "nobody listens any more");
}

#[test]
fn a_folder_with_a_long_path_has_a_socket_too() {
    let dir = folder();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).expect("a folder");
    answering(&deep, |_| Answer::Done, || assert_eq!(ask(&deep, Op::Sync).expect("an answer"), Answer::Done));
    assert!(!deep.join(SOCKET).exists());
}

#[test]
fn a_disk_that_does_not_answer_is_said_and_not_waited_for() {
    let dir = folder();
    let (requests_tx, requests_rx) = channel::bounded(1);
    let _server = serve_within(dir.path(), requests_tx, Duration::from_millis(1)).expect("a socket");
    for _ in 0..3 {
        // The first waits for an answer, the others for room: nobody takes anything out.
        let Answer::Failed(why) = ask(dir.path(), Op::Stat).expect("an answer") else { panic!("not a failure") };
        assert!(why.contains("the disk does not answer"), "{why}");
    }
    drop(requests_rx);
    let Answer::Failed(why) = ask(dir.path(), Op::Stat).expect("an answer") else { panic!("not a failure") };
    assert!(why.contains("stopping"), "{why}");
}

#[test]
fn what_is_no_question_is_refused_and_the_next_is_answered() {
    let dir = folder();
    let (requests_tx, requests_rx) = channel::bounded::<Request>(1);
    let _server = serve_within(dir.path(), requests_tx, LONG).expect("a socket");
    let too_large = format!(
        "{{\"op\":\"import\",\"route\":\"a\",\"records\":1,\"oldest_us\":0,\"newest_us\":0,\"octets\":{}}}\n",
        u64::from(u32::MAX)
    );
    let rows: [&[u8]; 7] = [
        b"",
        b"\n",
        b"{\"op\":\"stat\"",
        b"{\"op\":\"walk\"}\n",
        b"\xff\x00\n",
        too_large.as_bytes(),
        b"{\"op\":\"import\",\"route\":\"a\",\"records\":1,\"oldest_us\":0,\"newest_us\":0,\"octets\":10}\nnine octe",
    ];
    for question in rows {
        let mut stream = UnixStream::connect(dir.path().join(SOCKET)).expect("a connection");
        stream.write_all(question).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("{\"failed\":\""), "{}: {answer}", question.escape_ascii());
    }
    assert!(requests_rx.is_empty(), "the spool is not troubled");
}
