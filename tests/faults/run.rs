//! One run over a road: load, faults, and the account at the end.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::far_end::{Act, FarEnd, Speaks};
use crate::link::{Link, Weather};
use crate::names::{NAME, Names};
use crate::namespaces::{Namespace, remove_left_behind};
use crate::support::certificates::Certificates;
use crate::support::load::Load;
use crate::support::relay::{Relay, count};
use crate::support::rsyslogd::Rsyslogd;
use crate::support::waiting::{PATIENCE, pause, within};
use crate::support::{ROUTE_ALL, installed};

/// RFC 5737's: nothing of this leaves the machine, and nothing here is anybody's.
const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Of the far end, and of its name server.
pub const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Of the second far end, where there is one.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

/// What a kernel of either side buffers of one connection, bytes: the bound on what is under way, the same on every
/// machine.
pub const KERNEL_MAX: u64 = 1 << 20;

/// Messages that fill the window, of some 147 octets: from then on the relay releases, and a break has it send a window again.
const FULL_WINDOW: usize = 16_000;

/// How long rsyslogd may go without a message arriving before the rest counts as lost: more than twice its interval
/// between attempts, which begins with 30 s.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(75);
/// How long the comparison waits for rsyslogd's first message after a fault.
const RETURN_MAX: Duration = Duration::from_secs(150);
/// Until everything has arrived over a road that loses a tenth.
const ARRIVAL_MAX: Duration = Duration::from_secs(90);

/// Between two looks at all that has arrived.
const LOOK: Duration = Duration::from_millis(50);

/// Two namespaces and the link between them.
pub struct Road {
    /// Dropped first: it holds the devices' ends.
    pub link: Link,
    pub near: Namespace,
    pub far: Namespace,
}

impl Road {
    /// A new one in fine weather. The error says why this machine has none to give.
    fn open() -> Result<Self, String> {
        installed("ip").ok_or("ip is not installed")?;
        remove_left_behind();
        let (near, far) = (Namespace::new("near")?, Namespace::new("far")?);
        let link = Link::start(near.device(&[NEAR])?, far.device(&[FAR, OTHER])?);
        for end in [&near, &far] {
            end.set("tcp_rmem", &format!("4096 131072 {KERNEL_MAX}"))?;
            end.set("tcp_wmem", &format!("4096 65536 {KERNEL_MAX}"))?;
            // What nearly every machine uses, or its predecessor where a namespace may not have that.
            end.set("tcp_congestion_control", "cubic").or_else(|_| end.set("tcp_congestion_control", "reno"))?;
        }
        near.etc("resolv.conf", &format!("nameserver {FAR}\noptions timeout:1 attempts:2\n"))?;
        near.etc("nsswitch.conf", "hosts: files dns\n")?;
        Ok(Self { link, near, far })
    }
}

/// A fault, and what it is played with.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// As the table has it.
    pub name: &'static str,
    /// More keys of the relay's output, in flow style.
    pub output: &'static str,
    /// Whether the output is a name, which leads to the first of two far ends.
    pub is_named: bool,
    /// Messages at least.
    pub messages: u64,
    /// From the first message on.
    pub weather: Weather,
    /// What happens once messages flow.
    pub fault: fn(&mut Run),
}

/// Nothing happens.
pub const CALM: Scenario = Scenario {
    name: "",
    output: "",
    is_named: false,
    messages: 30_000,
    weather: Weather { loss_percent: 0, delay: Duration::ZERO, swallows: false },
    fault: |_| {},
};

/// Who sends over the road.
enum Sender {
    Relay(Relay),
    /// As Sekoia's pages have it, for comparison: nothing is asserted of it.
    Rsyslogd {
        _ends_with_the_run: Rsyslogd,
    },
}

/// A run in progress.
pub struct Run<'a> {
    pub road: &'a Road,
    /// One, or two with a name.
    pub far_ends: Vec<Box<dyn FarEnd>>,
    pub names: Option<Names>,
    sender: Sender,
    load: Option<Load>,
    /// When the fault began that is not over, where the relay has to end it.
    fault_began: Option<Instant>,
    /// From each fault's end, or from its beginning where the relay had to end it, to the next message.
    returns: Vec<Option<Duration>>,
}

/// Plays a scenario with the relay, and with `FOREBAY_COMPARE=1` once more with rsyslogd. Each prints a row of the table of
/// docs/RELIABILITY.md.
pub fn play(speaks: Speaks, scenario: Scenario) {
    play_once(speaks, scenario, false);
    if speaks == Speaks::Tls && std::env::var_os("FOREBAY_COMPARE").is_some() && installed("rsyslogd").is_some() {
        play_once(speaks, scenario, true);
    }
}

fn play_once(speaks: Speaks, scenario: Scenario, with_rsyslogd: bool) {
    let road = match Road::open() {
        Ok(road) => road,
        Err(why) => return println!("skipped: no road over network namespaces here: {why}"),
    };
    road.near.inside(|| {
        let certificates = Certificates::new();
        let addresses: &[Ipv4Addr] = if scenario.is_named { &[FAR, OTHER] } else { &[FAR] };
        let far_ends = addresses.iter().map(|address| speaks.start(&road.far, *address, &certificates));
        let far_ends: Vec<_> = far_ends.collect();
        let names = scenario.is_named.then(|| Names::start(&road.far, FAR, FAR));
        let host = if scenario.is_named { NAME.to_owned() } else { FAR.to_string() };
        let (sender, to) = if with_rsyslogd {
            let Some(action) = far_ends[0].action(&host) else { return };
            rsyslogd(&road, action)
        } else {
            relay(&road, &far_ends[0].output(&host), scenario.output)
        };
        road.link.turn(scenario.weather);
        let load = Load::start(to);
        let mut run =
            Run { road: &road, far_ends, names, sender, load: Some(load), fault_began: None, returns: Vec::new() };
        run.flows_on(FULL_WINDOW);
        (scenario.fault)(&mut run);
        run.sends_until(scenario.messages);
        run.finish(speaks, scenario.name);
    });
}

fn relay(road: &Road, output: &str, more: &str) -> (Sender, SocketAddr) {
    let comma = if more.is_empty() { "" } else { ", " };
    let configuration = format!(
        "outputs: {{sekoia: {{{output}{comma}{more}}}}}\n\
         inputs: {{lan: {{listen: 'tcp://127.0.0.1:0'}}}}\n{ROUTE_ALL}"
    );
    let relay = Relay::start_as(&configuration, |program| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", road.near.name(), program]);
        command
    });
    let to = relay.address("lan", "tcp");
    (Sender::Relay(relay), to)
}

fn rsyslogd(road: &Road, (action, global): (String, String)) -> (Sender, SocketAddr) {
    let configuration = format!(
        "{global}module(load=\"imtcp\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"DIRECTORY/port\")\n\
         template(name=\"key\" type=\"string\" string=\"<%pri%>1 %timestamp:::date-rfc3339% %hostname% %app-name% %procid% \
         LOG [SEKOIA@53288 intake_key=\\\"key-of-all\\\"] %msg%\\n\")\n\
         if $inputname == 'imtcp' then action(type=\"omfwd\" protocol=\"tcp\" {action} TCP_Framing=\"octet-counted\" \
         template=\"key\" queue.type=\"LinkedList\" queue.fileName=\"sek_fwd\" queue.maxDiskSpace=\"5g\" \
         queue.saveOnShutdown=\"on\" action.resumeRetryCount=\"-1\")\n"
    );
    let rsyslogd = Rsyslogd::start_inside(road.near.name(), &configuration);
    let port = rsyslogd.port("port");
    (Sender::Rsyslogd { _ends_with_the_run: rsyslogd }, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

impl Run<'_> {
    /// The relay; `None` in the comparison.
    pub fn relay(&self) -> Option<&Relay> {
        match &self.sender {
            Sender::Relay(relay) => Some(relay),
            Sender::Rsyslogd { .. } => None,
        }
    }

    fn arrived(&self) -> usize {
        self.far_ends.iter().map(|far_end| far_end.arrived()).sum()
    }

    /// Waits until so many more messages have arrived, or the comparison has lost its patience.
    #[track_caller]
    pub fn flows_on(&self, messages: usize) {
        let goal = self.arrived() + messages;
        let flowed = within(if self.relay().is_some() { ARRIVAL_MAX } else { RETURN_MAX }, || {
            let so_far = self.arrived();
            if so_far >= goal { Ok(()) } else { Err(format!("{so_far} of {goal} have arrived")) }
        });
        assert!(flowed.is_ok() || self.relay().is_none(), "{flowed:?}");
    }

    /// Waits until so many messages were sent.
    #[track_caller]
    fn sends_until(&self, messages: u64) {
        let sent = within(ARRIVAL_MAX, || {
            let so_far = self.load.as_ref().unwrap().sent();
            if so_far >= messages { Ok(()) } else { Err(format!("{so_far} of {messages} were sent")) }
        });
        assert!(sent.is_ok() || self.relay().is_none(), "{sent:?}");
    }

    /// Has the far end do something.
    pub fn act(&self, act: Act) {
        self.far_ends[0].act(act);
    }

    /// Lets `weather` pass over the road for so long, and clears it up.
    pub fn weather_for(&self, weather: Weather, time: Duration) {
        self.road.link.turn(weather);
        pause(time);
        self.road.link.turn(Weather::default());
    }

    /// The fault is over, or the relay has to end it: measures until messages arrive again, and holds the relay to `limit`.
    #[track_caller]
    pub fn is_back_within(&mut self, limit: Duration) {
        let (before, began) = (self.arrived(), self.fault_began.take().unwrap_or_else(Instant::now));
        let patience = if self.relay().is_some() { limit } else { RETURN_MAX };
        let back = within(patience, || if self.arrived() > before { Ok(began.elapsed()) } else { Err(String::new()) });
        let is_in_time = back.as_ref().is_ok_and(|time| *time < limit);
        assert!(is_in_time || self.relay().is_none(), "messages arrive again after {back:?}, not within {limit:?}");
        self.returns.push(back.ok());
    }

    /// Does what makes the relay's connection useless, and returns once the relay has left it.
    #[track_caller]
    pub fn breaks_by(&mut self, fault: impl Fn(&Self)) {
        let before = self.breaks();
        // A connection that is made in that moment may miss it.
        let is_left = (0..4).any(|_| {
            self.fault_began = Some(Instant::now());
            fault(self);
            let left = || if self.breaks() > before { Ok(()) } else { Err("it is not left".to_owned()) };
            self.relay().is_none() || within(PATIENCE / 4, left).is_ok()
        });
        assert!(is_left, "the connection is useless, and the relay has not left it");
    }

    /// How often the relay's connection has broken; 0 in the comparison.
    pub fn breaks(&self) -> u64 {
        let broken = |relay: &Relay| relay.metric("forebay_output_broken_connections_total", "output=\"sekoia\"");
        self.relay().map_or(0, broken)
    }

    /// The numbers of what has arrived: one far end's, then the other's.
    fn numbers(&self) -> Vec<u64> {
        self.far_ends.iter().flat_map(|far_end| far_end.numbers()).collect()
    }

    /// Ends the load, holds the relay to its promises, and prints the row.
    #[track_caller]
    fn finish(mut self, speaks: Speaks, name: &str) {
        let sent = self.load.take().unwrap().finish();
        let ended = Instant::now();
        let distinct = || self.numbers().into_iter().collect::<BTreeSet<u64>>().len() as u64;
        let lag = if self.relay().is_some() {
            let arrived = within(ARRIVAL_MAX, || {
                pause(LOOK);
                let distinct = distinct();
                if distinct == sent { Ok(()) } else { Err(format!("{distinct} of {sent} have arrived")) }
            });
            assert!(arrived.is_ok(), "{arrived:?}");
            ended.elapsed()
        } else {
            self.last_arrival(sent).saturating_duration_since(ended)
        };
        let breaks = self.breaks();
        let bound = self.settle(speaks, sent);
        let numbers = self.numbers();
        let arrived: BTreeSet<u64> = numbers.iter().copied().collect();
        let twice = numbers.len() - arrived.len();
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let cell = |time: &Option<Duration>| time.map_or("never".to_owned(), seconds);
        // The longest; one that never ended is longer than any.
        let back = self.returns.iter().max_by_key(|time| time.unwrap_or(Duration::MAX)).map_or(String::new(), cell);
        let who = if bound.is_some() { "forebay" } else { "rsyslogd" };
        let (bound, breaks) = bound.map_or(<_>::default(), |bound| (bound.to_string(), breaks.to_string()));
        println!(
            "| {name} | {speaks} | {who} | {sent} | {} | {twice} | {bound} | {breaks} | {back} | {} |",
            sent - arrived.len() as u64,
            seconds(lag)
        );
    }

    /// When the last message arrived that rsyslogd brought over.
    fn last_arrival(&self, sent: u64) -> Instant {
        let (mut arrived, mut last) = (self.arrived(), Instant::now());
        while last.elapsed() < GIVEN_UP_AFTER
            && self.numbers().into_iter().collect::<BTreeSet<u64>>().len() < sent as usize
        {
            pause(LOOK);
            if self.arrived() != arrived {
                (arrived, last) = (self.arrived(), Instant::now());
            }
        }
        last
    }

    /// Holds the relay's books to what was sent and what arrived. Returns how many messages may have arrived twice; `None`
    /// in the comparison.
    #[track_caller]
    fn settle(&mut self, speaks: Speaks, sent: u64) -> Option<u64> {
        let numbers = self.numbers();
        let (breaks, times) = (self.breaks(), self.far_ends.len());
        let Sender::Relay(relay) = &mut self.sender else { return None };
        let status = relay.status_when("the queue to be empty", |status| {
            let of_route = |name| count(status.route("all"), name);
            let is_answered = !speaks.acknowledges() || of_route("in_flight") == 0;
            of_route("waiting") == 0 && is_answered && count(status.input("lan"), "received") == sent
        });
        status.assert_balanced();
        let route = status.route("all");
        let of_route = |name| count(route, name);
        assert_eq!((of_route("routed"), of_route("dropped"), of_route("spooled")), (sent, 0, 0));
        assert_eq!(of_route("released") + of_route("in_flight"), sent);

        let of_output = |name: &str| relay.metric(name, "output=\"sekoia\"");
        let octets = of_output("forebay_output_written_bytes_total");
        let written = of_output("forebay_output_written_messages_total");
        let resent = of_route("resent");
        assert!(written <= sent + resent, "{written} written of {sent}, {resent} of them again");
        let bound = speaks.again_max(breaks, octets / written);
        assert!(resent <= bound, "{resent} sent again after {breaks} breaks: more than the window holds ({bound})");
        let mut seen = BTreeSet::new();
        let firsts: Vec<u64> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
        let twice = (numbers.len() - firsts.len()) as u64;
        assert!(twice <= resent, "{twice} arrived twice, {resent} were sent again");
        assert!(firsts.is_sorted() || times > 1, "one source's messages arrive in its order");
        relay.stop_clean();
        Some(bound)
    }
}
