//! One core's loop: its receivers, its pipeline, its forwarders, on one thread and one current-thread runtime.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel as channel;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::config::{Config, Input, Output};
use crate::forward::{FileWriter, Said, WINDOW_MEMORY, Web};
use crate::metrics::Meters;
use crate::names::Names;
use crate::pipeline::{Pipeline, WhenFull};
use crate::receive::{Bound, Gate};
use crate::road::Targets;
use crate::spool::Port;
use crate::stop::{self, Stop};
use crate::syslog::Frame;
use crate::tap::Taps;
use crate::time::since_epoch;
use crate::tls;

use inlets::Inlets;
use outlets::Outlets;

mod inlets;
mod outlets;
mod spooler;
#[cfg(test)]
mod tests;

/// What all shards share of one configuration. A reload makes another, with all that did not change. By input, route and output
/// means by the number that [`Config::after`] gives.
pub struct Common {
    /// The configuration.
    pub config: Arc<Config>,
    /// By input.
    pub inputs: Vec<Arc<Input>>,
    /// By input: TLS of its `tls://` listeners.
    pub acceptors: Vec<Option<Arc<tls::Server>>>,
    /// By input.
    pub gates: Vec<Arc<Gate>>,
    /// By output.
    pub outputs: Vec<Arc<Output>>,
    /// By output: TLS towards it.
    pub connectors: Vec<Option<Arc<tls::Client>>>,
    /// By output: what the log was told of it.
    pub said: Vec<Arc<Said>>,
    /// What HTTPS outputs know together.
    pub web: Arc<Web>,
    /// By output: who writes its file, where it is one.
    pub files: Vec<Option<FileWriter>>,
    /// By output: how its targets are.
    pub targets: Vec<Arc<Targets>>,
    /// The resolver.
    pub names: Names,
    /// All counts.
    pub meters: Arc<Meters>,
    /// Who looks at what passes.
    pub taps: Arc<Taps>,
    /// By shard: when it last turned, seconds since the Unix epoch.
    pub heartbeats: Arc<[AtomicU64]>,
}

impl Common {
    /// Shards that are stuck: which, and seconds since they last turned.
    pub fn late(&self) -> impl Iterator<Item = (usize, u64)> {
        let now = since_epoch().as_secs();
        let ages = self.heartbeats.iter().map(move |heartbeat| now.saturating_sub(heartbeat.load(Relaxed)));
        ages.enumerate().filter(|(_, age)| *age > HEARTBEAT_LATE.as_secs())
    }
}

/// A shard that has not turned for so long is stuck.
const HEARTBEAT_LATE: Duration = Duration::from_secs(10);

/// How often a shard says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the program itself takes of `memory.max`: code, tables, the admin server. Measured: under 10 MiB idle.
const MEMORY_OF_THE_PROGRAM: usize = 12 * 1024 * 1024;

/// What a shard takes beside its queues: receive buffers (64 of the largest datagrams are 4 MiB), what is being rendered,
/// 2 KiB for each of some thousand connections, and what the allocator has not given back yet.
const MEMORY_OF_A_SHARD: usize = 10 * 1024 * 1024;

/// What the spool's own thread takes of `memory.max`: sled's cache, and buffers to compress and to read into.
const MEMORY_OF_THE_SPOOL: usize = 12 * 1024 * 1024;

/// A shard's queues and windows have this at least, whatever `memory.max` says.
const SHARE_MIN: usize = 1024 * 1024;

/// Of a shard's queues, a request over HTTPS takes a part at most: one of so many.
const REQUEST_PARTS: usize = 4;

/// How long receivers may go on reading what arrives, of all the time for the stop: half of it, where they take a third and
/// a moment. Most of the stop belongs to the far end.
fn receivers_deadline(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// How long a stop waits at its end until the last acknowledgements are with their senders' kernels.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How the memory is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Bytes of queues, a shard.
    pub queues: usize,
    /// Bytes of replay window, a connection: at most what the output asks for.
    pub window_max: usize,
}

/// Divides `memory.max`: replay windows take what they are configured to (and [as much again](WINDOW_MEMORY) for records
/// that are longer than what they render to), up to half of what there is, with a spool up to four fifths; queues four
/// fifths of the rest.
pub fn shares(config: &Config) -> Shares {
    let spool = if config.spool.is_some() { MEMORY_OF_THE_SPOOL } else { 0 };
    let fixed = MEMORY_OF_THE_PROGRAM + spool + config.cores * MEMORY_OF_A_SHARD;
    let each = (config.memory_max.saturating_sub(fixed) / config.cores.max(1)).max(SHARE_MIN);
    let outputs = || config.outputs.iter().filter(|output| !output.retired);
    let connections: usize = outputs().map(|output| output.connections_per_shard.max(1)).sum();
    let wanted = |max: usize| -> usize {
        let windows = outputs().map(|output| output.replay_window.min(max) * output.connections_per_shard.max(1));
        WINDOW_MEMORY * windows.sum::<usize>()
    };
    let widest = outputs().map(|output| output.replay_window).max().unwrap_or(0);
    // What queues do not hold goes to the disk, where there is a spool.
    let for_windows = if config.spool.is_some() { each / 5 * 4 } else { each / 2 };
    let fits = wanted(widest) <= for_windows;
    let window_max = if fits { widest } else { for_windows / WINDOW_MEMORY / connections.max(1) };
    // Up to a fifth is what batches have allocated and do not use.
    let queues = each.saturating_sub(wanted(window_max)) / 5 * 4;
    Shares { queues, window_max }
}

/// A reload, as one shard gets it.
pub struct Change {
    /// What all shards share from now on.
    pub common: Arc<Common>,
    /// Sockets that the shard has not had before.
    pub bound: Vec<Bound>,
    /// Told once it is applied; there is room for all shards.
    pub done: channel::Sender<std::io::Result<()>>,
}

/// Runs one shard until the stop; returns how many messages could not be delivered, nor spooled. `index` counts from 0;
/// `bound` are its own sockets, `port` its end of the spool, `changes` bring reloads. Calls `started` once they are read.
///
/// # Errors
/// When the runtime cannot be built, a socket cannot be read, or a forwarder ends by itself (a bug).
pub fn run(
    common: &Arc<Common>,
    index: usize,
    bound: Vec<Bound>,
    port: Option<Port>,
    changes: mpsc::Receiver<Change>,
    stop: Stop,
    started: impl FnOnce(),
) -> std::io::Result<u64> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    let left = runtime.block_on(serve(Arc::clone(common), index, bound, port, changes, stop, started));
    // Whatever still runs must not hold the stop up.
    runtime.shutdown_background();
    left
}

/// Sends one message through a pipeline and forwarders of its own, which are told to stop at once: they send what waits, and
/// close in order. Returns after `limit` at the latest.
///
/// # Errors
/// When the runtime cannot be built, or a forwarder fails (a bug).
pub fn deliver(common: &Arc<Common>, frame: &[u8], limit: Duration) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    let delivered = runtime.block_on(async {
        let shares = shares(&common.config);
        let pipeline = Rc::new(Pipeline::new(&common.config, shares.queues, Arc::clone(&common.meters), None));
        let (stopper, stop) = stop::channel();
        let mut forwarders = JoinSet::new();
        Outlets::new(&pipeline, &stop).apply(common, shares, &mut forwarders);
        let frame = Frame { bytes: frame, flaw: None };
        // Whether it was taken, its counters say.
        let _offer = pipeline.turn(0).offer(frame, None, WhenFull::Drop);
        stopper.stop(Instant::now() + limit);
        while let Some(ended) = forwarders.join_next().await {
            ended.map_err(std::io::Error::other)?;
        }
        Ok(())
    });
    runtime.shutdown_background();
    delivered
}

async fn serve(
    common: Arc<Common>,
    index: usize,
    bound: Vec<Bound>,
    port: Option<Port>,
    mut changes: mpsc::Receiver<Change>,
    mut stop: Stop,
    started: impl FnOnce(),
) -> std::io::Result<u64> {
    let shares = shares(&common.config);
    let pipeline = Pipeline::new(&common.config, shares.queues, Arc::clone(&common.meters), port);
    let pipeline = Rc::new(pipeline.tapped_by(&common.taps));
    let (flush, flushing) = stop::channel();
    let (mut forwarders, mut receivers) = (JoinSet::new(), JoinSet::new());
    let mut outlets = Outlets::new(&pipeline, &flushing);
    outlets.apply(&common, shares, &mut forwarders);
    let (alive, mut all_ended) = mpsc::channel(1);
    let (settling, mut all_settled) = mpsc::channel(1);
    let mut inlets = Inlets::new(&pipeline, alive, settling);
    inlets.apply(&common, bound, &mut receivers)?;
    started();
    let stopped = stop.clone();
    let flow = async {
        let deadline = loop {
            tokio::select! {
                deadline = stop.ordered() => break deadline,
                Some(Change { common, bound, done }) = changes.recv() => {
                    let shares = self::shares(&common.config);
                    pipeline.arrange(&common.config, shares.queues);
                    outlets.apply(&common, shares, &mut forwarders);
                    // Whoever asked may not wait any more.
                    drop(done.try_send(inlets.apply(&common, bound, &mut receivers)));
                }
                Some(ended) = forwarders.join_next() => match ended {
                    // It was retired, and nothing is left of what it had.
                    Ok(None) => {}
                    // Its queue would fill and nobody would empty it.
                    _ => return Err(std::io::Error::other("a forwarder ended by itself")),
                },
                // Its socket would stay open, and nobody would read it.
                Some(_) = receivers.join_next() => if !inlets.was_told_to_end() {
                    return Err(std::io::Error::other("a receiver ended by itself"));
                },
            }
        };
        // In the order of the flow: receivers end first, then what they left is forwarded.
        inlets.stop(deadline);
        let _late = timeout_at(receivers_deadline(deadline), all_ended.recv()).await;
        let deadline = spooler::forwarders_deadline(&pipeline, deadline).await;
        flush.stop(deadline);
        let mut left = 0;
        while let Some(forwarder) = forwarders.join_next().await {
            left += forwarder.map_err(std::io::Error::other)?.unwrap_or(0);
        }
        Ok((left, inlets))
    };
    let flow = async {
        let (left, mut inlets) = spooler::beside(&pipeline, flow).await?;
        if let Some(deadline) = stopped.deadline() {
            spooler::empty(&pipeline, deadline).await;
        }
        // A receiver that was late may have brought something after its forwarder had gone.
        let left = left + spooler::drop_rest(&pipeline);
        // Senders hear of what was settled last.
        let now = Instant::now();
        inlets.close(now);
        let _late = timeout_at(now + LAST_ANSWERS, all_settled.recv()).await;
        Ok(left)
    };
    tokio::select! {
        left = flow => left,
        never = beat(&common, &pipeline, index) => match never {},
    }
}

/// Says once a second that this shard still turns (`/livez` looks at it), and since when messages wait. Never ends.
async fn beat(common: &Common, pipeline: &Pipeline, index: usize) -> Infallible {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = since_epoch().as_secs();
        if let Some(heartbeat) = common.heartbeats.get(index) {
            heartbeat.store(now, Relaxed);
        }
        pipeline.tell_ages(index);
    }
}
