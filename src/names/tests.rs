//! The resolver against a name server of its own.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::query::LIBRARY_MAX;
use super::*;

const PATIENT: Duration = Duration::from_secs(20);

/// A name server on a port of its own; what it knows can be changed. It lives as long as the process.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    ttl: Arc<AtomicUsize>,
    /// Questions that arrived, of both families.
    questions: Arc<AtomicUsize>,
    is_silent: Arc<Mutex<bool>>,
}

impl Server {
    pub(crate) fn start(ttl: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            zone: Arc::default(),
            ttl: Arc::new(ttl.into()),
            questions: Arc::default(),
            is_silent: Arc::default(),
        };
        let this = server.clone();
        thread::spawn(move || {
            let mut octets = [0; 1500];
            loop {
                let (count, from) = socket.recv_from(&mut octets).unwrap();
                this.questions.fetch_add(1, SeqCst);
                if !*this.is_silent.lock().unwrap() {
                    socket.send_to(&this.answer(&octets[..count]), from).unwrap();
                }
            }
        });
        server
    }

    pub(crate) fn set(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.zone.lock().unwrap().insert(host.to_owned(), addresses);
    }

    fn be_silent(&self) {
        *self.is_silent.lock().unwrap() = true;
    }

    /// RFC 1035 section 4: the header, the one question again, and an answer an address.
    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while question[at] != 0 {
            let label = &question[at + 1..=at + usize::from(question[at])];
            labels.push(String::from_utf8(label.to_ascii_lowercase()).unwrap());
            at += 1 + label.len();
        }
        let kind = question[at + 2];
        let known = self.zone.lock().unwrap().get(&labels.join(".")).cloned();
        let code = if known.is_some() { 0 } else { 3 };
        let is_wanted = |address: &IpAddr| address.is_ipv4() == (kind == 1);
        let addresses: Vec<_> = known.unwrap_or_default().into_iter().filter(is_wanted).collect();
        let mut out = question[..2].to_vec();
        out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
        out.extend(&question[12..at + 5]);
        for address in addresses {
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            out.extend([0xc0, 12, 0, kind, 0, 1]);
            out.extend(u32::try_from(self.ttl.load(SeqCst)).unwrap().to_be_bytes());
            out.extend([0, u8::try_from(octets.len()).unwrap()]);
            out.extend(octets);
        }
        out
    }

    pub(crate) fn names(&self) -> Names {
        self.names_in(None)
    }

    fn names_in(&self, folder: Option<PathBuf>) -> Names {
        Names::start_with(folder, Means { servers: Some(vec![self.address]), library: None }).unwrap()
    }
}

fn sockets(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

fn question(host: &str) -> Question<'_> {
    Question { host, port: 514, fallback: &[], limit: PATIENT, is_doubted: false }
}

async fn lookup(names: &Names, host: &str) -> Result<Answer, LookupError> {
    names.lookup(question(host)).await
}

/// A question for this name is a bug of the resolver's.
const BUG: &str = "bug.example";

/// Called by the desk with each name that it is asked for.
pub(super) fn panics_over(host: &str) {
    assert!(host != BUG, "a panic that the test wants");
}

#[tokio::test]
async fn a_panic_of_the_resolver_costs_one_question_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(60);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names_in(Some(folder.path().to_owned()));
    assert_eq!(lookup(&names, "a.example").await.unwrap().addresses, sockets(&["192.0.2.1:514"]));
    for restarts in 1..=3 {
        let error = lookup(&names, BUG).await.unwrap_err();
        assert!(error.to_string().contains("the resolver has failed"), "{error}");
        // Names are resolved as before, by another question: what was cached is gone.
        let asked = server.questions.load(SeqCst);
        let answer = lookup(&names, "a.example").await.unwrap();
        assert_eq!((answer.addresses, answer.source), (sockets(&["192.0.2.1:514"]), Source::Dns));
        assert!(server.questions.load(SeqCst) > asked);
        assert_eq!(names.restarts(), restarts);
    }
    // A question that waits while the resolver fails is not left waiting.
    server.be_silent();
    let (waiting, bug) = tokio::join!(lookup(&names, "b.example"), async {
        // Behind the other in the queue: it has been taken by then.
        lookup(&names, BUG).await
    });
    assert!(bug.is_err());
    assert!(waiting.unwrap_err().to_string().contains("the resolver has failed"));
    // The last good addresses are those from before.
    let fallback = names.lookup(Question { limit: Duration::from_millis(50), ..question("a.example") }).await.unwrap();
    assert_eq!((fallback.addresses, fallback.source), (sockets(&["192.0.2.1:514"]), Source::LastGood));
    let restarted = async {
        while names.restarts() < 4 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENT, restarted).await.expect("the fourth restart is counted");
}

#[tokio::test]
async fn both_families_are_found_and_kept_for_their_ttl() {
    let server = Server::start(60);
    server.set("a.example", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let names = server.names();
    let mut answer = lookup(&names, "a.example").await.unwrap();
    answer.addresses.sort();
    assert_eq!(answer.addresses, sockets(&["192.0.2.1:514", "192.0.2.2:514", "[2001:db8::1]:514"]));
    assert_eq!(answer.source, Source::Dns);
    let left = answer.expires_at - Instant::now();
    assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
    let asked = server.questions.load(SeqCst);
    assert_eq!(asked, 2);
    server.set("a.example", &["192.0.2.9"]);
    assert_eq!(lookup(&names, "a.example").await.unwrap().addresses.len(), 3);
    assert_eq!(server.questions.load(SeqCst), asked);
}

#[tokio::test]
async fn an_answer_holds_no_longer_than_its_ttl_and_never_for_days() {
    let server = Server::start(0);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names();
    let first = lookup(&names, "a.example").await.unwrap();
    let left = first.expires_at - Instant::now();
    assert!(left > Duration::ZERO && left <= TTL.0, "{left:?}");
    server.set("a.example", &["192.0.2.2"]);
    server.ttl.store(1_000_000, SeqCst);
    tokio::time::sleep_until(first.expires_at).await;
    let second = lookup(&names, "a.example").await.unwrap();
    assert_eq!(second.addresses, sockets(&["192.0.2.2:514"]));
    let left = second.expires_at - Instant::now();
    assert!(left > TTL.1 / 2 && left <= TTL.1, "{left:?}");
}

#[tokio::test]
async fn an_answer_that_did_not_help_is_asked_for_again_soon_but_not_at_once() {
    let server = Server::start(60);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names();
    let doubted = Question { is_doubted: true, ..question("a.example") };
    names.lookup(doubted).await.unwrap();
    server.set("a.example", &["192.0.2.2"]);
    assert_eq!(names.lookup(doubted).await.unwrap().addresses, sockets(&["192.0.2.1:514"]));
    assert_eq!(server.questions.load(SeqCst), 2);
    sleep(YOUNG).await;
    assert_eq!(lookup(&names, "a.example").await.unwrap().addresses, sockets(&["192.0.2.1:514"]));
    assert_eq!(names.lookup(doubted).await.unwrap().addresses, sockets(&["192.0.2.2:514"]));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_error_and_not_asked_for_again_at_once() {
    let server = Server::start(60);
    let names = server.names();
    let error = lookup(&names, "b.example").await.unwrap_err();
    assert_eq!(error.to_string(), "the name servers know no address of it");
    let asked = server.questions.load(SeqCst);
    lookup(&names, "b.example").await.unwrap_err();
    assert_eq!(server.questions.load(SeqCst), asked);
    assert!(lookup(&names, "not a name").await.is_err());
    assert!(lookup(&names, &"a.".repeat(300)).await.is_err());
}

#[tokio::test]
async fn a_failure_is_answered_with_the_last_good_addresses_and_then_with_the_fallback() {
    let server = Server::start(0);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names();
    let fallback: [IpAddr; 2] = ["198.51.100.7".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    let answer = names.lookup(Question { fallback: &fallback, ..question("b.example") }).await.unwrap();
    assert_eq!((answer.addresses, answer.source), (sockets(&["198.51.100.7:514", "192.0.2.1:514"]), Source::Fallback));
    let good = lookup(&names, "a.example").await.unwrap();
    server.be_silent();
    tokio::time::sleep_until(good.expires_at).await;
    let answer = names
        .lookup(Question { fallback: &fallback, limit: Duration::from_millis(50), ..question("a.example") })
        .await
        .unwrap();
    assert_eq!(answer.addresses, sockets(&["192.0.2.1:514", "198.51.100.7:514"]));
    assert_eq!(answer.source, Source::LastGood);
    let error = names.lookup(Question { limit: Duration::from_millis(50), ..question("c.example") }).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer within 50ms");
}

#[tokio::test]
async fn last_good_addresses_survive_a_restart_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(60);
    server.set("a.example", &["192.0.2.1", "2001:db8::1"]);
    let names = server.names_in(Some(folder.path().to_owned()));
    lookup(&names, "a.example").await.unwrap();
    let path = folder.path().join("names");
    let is_written = async {
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains("a.example 2001:db8::1 192.0.2.1\n")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENT, is_written).await.unwrap();
    drop(names);
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "what a disk may say\n").unwrap();
    let empty = Server::start(60);
    let names = empty.names_in(Some(folder.path().to_owned()));
    let answer = lookup(&names, "a.example").await.unwrap();
    assert_eq!(answer.addresses, sockets(&["[2001:db8::1]:514", "192.0.2.1:514"]));
    assert_eq!(answer.source, Source::LastGood);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_nothing() {
    let server = Server::start(0);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names_in(Some("/nowhere/at/all".into()));
    let answer = lookup(&names, "a.example").await.unwrap();
    tokio::time::sleep_until(answer.expires_at).await;
    assert_eq!(lookup(&names, "a.example").await.unwrap().source, Source::Dns);
}

#[tokio::test]
async fn servers_that_never_answer_are_asked_once_a_name_however_many_wait() {
    let server = Server::start(60);
    server.be_silent();
    let names = server.names();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..500_u64 {
        let names = names.clone();
        let limit = Duration::from_millis(n % 7 * 10);
        waiting.spawn(async move { names.lookup(Question { limit, ..question("a.example") }).await.is_err() });
    }
    assert!(waiting.join_all().await.iter().all(|failed| *failed));
    // Two families, each tried a few times at most.
    let asked = server.questions.load(SeqCst);
    assert!((1..=8).contains(&asked), "{asked} questions for 500 lookups");
    // Another name is not held up.
    *server.is_silent.lock().unwrap() = false;
    server.set("b.example", &["192.0.2.1"]);
    assert!(lookup(&names, "b.example").await.is_ok());
}

/// Calls of [`hang`], and those that may return.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static GO_ON: Mutex<()> = Mutex::new(());

fn hang(_: &str) -> io::Result<Vec<IpAddr>> {
    CALLS.fetch_add(1, SeqCst);
    drop(GO_ON.lock());
    Ok(vec!["192.0.2.5".parse().unwrap()])
}

#[test]
fn a_library_that_hangs_has_few_calls_and_is_believed_once_it_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start(60);
    server.set("known.example", &["192.0.2.1"]);
    let names = Names::start_with(None, Means { servers: Some(vec![server.address]), library: Some(hang) }).unwrap();
    let held = GO_ON.lock().unwrap();
    runtime.block_on(async {
        // Those that hang wait for their limit; the others have their answer at once, which takes a busy machine a while.
        let limit = Duration::from_secs(4);
        let lookups = (0..20).map(|n| {
            let names = names.clone();
            async move { names.lookup(Question { limit, ..question(&format!("n{n}.example")) }).await }
        });
        let mut waiting: tokio::task::JoinSet<_> = lookups.collect();
        let mut late = 0;
        while let Some(answer) = waiting.join_next().await {
            late += usize::from(matches!(answer.unwrap(), Err(LookupError::Late(_))));
        }
        assert_eq!((late, CALLS.load(SeqCst)), (LIBRARY_MAX, LIBRARY_MAX));
        assert!(lookup(&names, "known.example").await.is_ok());
    });
    drop(held);
    runtime.block_on(async {
        // The calls that hung end one after another.
        let asks = async {
            for n in 0.. {
                if let Ok(answer) = lookup(&names, &format!("else{n}.example")).await {
                    return answer.addresses;
                }
            }
            Vec::new()
        };
        assert_eq!(tokio::time::timeout(PATIENT, asks).await.unwrap(), sockets(&["192.0.2.5:514"]));
    });
}

#[tokio::test]
async fn a_name_has_moved_when_two_answers_in_a_row_lack_the_peer() {
    let server = Server::start(0);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names();
    lookup(&names, "a.example").await.unwrap();
    let peer = sockets(&["192.0.2.1:514"])[0];
    let moved = names.moved("a.example", peer);
    tokio::pin!(moved);
    let question_after = |asked: usize, questions: Arc<AtomicUsize>| async move {
        while questions.load(SeqCst) <= asked {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = &mut moved => panic!("it has not moved"),
        () = question_after(3, Arc::clone(&server.questions)) => {}
    }
    server.set("a.example", &["192.0.2.2"]);
    let asked = server.questions.load(SeqCst);
    timeout(PATIENT, moved).await.unwrap();
    // The answer in which it was missing for the first time was not enough.
    assert!(server.questions.load(SeqCst) >= asked + 3, "{asked}");
}

#[tokio::test]
async fn a_name_that_no_longer_resolves_has_not_moved() {
    let server = Server::start(0);
    server.set("a.example", &["192.0.2.1"]);
    let names = server.names();
    lookup(&names, "a.example").await.unwrap();
    server.zone.lock().unwrap().clear();
    let moved = names.moved("a.example", sockets(&["192.0.2.1:514"])[0]);
    assert!(timeout(Duration::from_secs(5), moved).await.is_err());
}

#[tokio::test]
async fn files_of_the_system_answer_without_a_server() {
    let names = Names::start_with(None, Means::system()).unwrap();
    let answer = lookup(&names, "localhost").await.unwrap();
    assert!(answer.addresses.iter().all(|address| address.ip().is_loopback()), "{answer:?}");
}

#[test]
fn families_take_turns() {
    let addresses = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
    let turns = |list: &[&str]| by_turns(addresses(list)).collect::<Vec<_>>();
    assert_eq!(
        turns(&["192.0.2.1", "192.0.2.2", "::1", "::2", "::3"]),
        addresses(&["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"])
    );
    assert_eq!(turns(&["192.0.2.1", "192.0.2.2"]), addresses(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(turns(&[]), addresses(&[]));
}
