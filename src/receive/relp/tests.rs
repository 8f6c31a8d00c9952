//! One connection over a pipe in memory, with a pipeline behind it and no output.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::*;
use crate::batch::Stub;
use crate::config::{self, Source};
use crate::metrics::{InputMeters, Meters};
use crate::pipeline::Pipeline;
use crate::receive::{Gate, Shared};
use crate::relp::client::{self, Client};
use crate::relp::frame::{Command, Encoder};
use crate::stop;

/// A connection's ends, and who gives the orders.
struct Rig {
    sender: DuplexStream,
    pipeline: Rc<Pipeline>,
    ended: tokio::task::JoinHandle<()>,
    stopper: stop::Stopper,
    closer: stop::Stopper,
    all_ended: mpsc::Receiver<()>,
}

/// The output takes and releases all that waits.
fn release_all(pipeline: &Pipeline) {
    let mut taken = Vec::new();
    pipeline.take(pipeline.queue(0).unwrap(), usize::MAX, |lane, batch| taken.push((lane, batch)));
    for (lane, batch) in taken {
        pipeline.acknowledge(lane, batch.charge());
        pipeline.release(lane, Stub::of(&batch), 0);
    }
}

/// As a shard's thread does it.
fn on_a_shard(what: impl AsyncFnOnce()) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(60), what()).await.unwrap() });
}

impl Rig {
    fn new(input: &str) -> Self {
        let text = format!(
            "inputs: {{relay: {{listen: 'relp+tcp://127.0.0.1:0', {input}}}}}\noutputs: {{o: {{to: 'tcp://192.0.2.1:9'}}}}\n\
             routes: [{{name: all, template: '%msg%', output: o}}]\n"
        );
        let config = config::load(&Source::Text { name: "test".into(), text }, &|_| None).unwrap().config;
        let meters = Arc::new(Meters::new(&config));
        let pipeline = Rc::new(Pipeline::new(&config, 64 << 20, meters, None));
        let (stopper, stop) = stop::channel();
        let (closer, closing) = stop::channel();
        let (alive, all_ended) = mpsc::channel(1);
        let (settling, _) = mpsc::channel(1);
        let receivers = Receivers {
            input: Arc::new(config.inputs.into_iter().next().unwrap()),
            input_index: 0,
            gate: Arc::<Gate>::default(),
            inherited: false,
            tls: None,
            manner: crate::receive::Manner::default(),
            pipeline: Rc::clone(&pipeline),
            shared: Rc::new(Shared::default()),
            stop,
            alive: Some(alive),
            settling,
            closing,
        };
        let (sender, stream) = duplex(4096);
        let ended = spawn_local(serve(receivers, None, stream));
        Self { sender, pipeline, ended, stopper, closer, all_ended }
    }

    fn meters(&self) -> &InputMeters {
        &self.pipeline.meters().inputs[0]
    }

    /// Lets other tasks go on until it is so.
    async fn until(&self, is_so: impl Fn(&InputMeters) -> bool) {
        while !is_so(self.meters()) {
            yield_now().await;
        }
    }

    /// A session, and the sender's end of it.
    async fn open(&mut self) -> Client {
        let (mut client, mut out, mut buffer) = (Client::new(1_000_000), Vec::new(), [0; 4096]);
        client.open(&mut out);
        self.sender.write_all(&out).await.unwrap();
        loop {
            let len = self.sender.read(&mut buffer).await.unwrap();
            let mut input = &buffer[..len];
            if client.next_event(&mut input).unwrap().is_some() {
                return client;
            }
        }
    }

    /// All that still comes.
    async fn rest(&mut self, client: &mut Client) -> Vec<client::Event> {
        let mut octets = Vec::new();
        self.sender.read_to_end(&mut octets).await.unwrap();
        let mut input = octets.as_slice();
        std::iter::from_fn(|| client.next_event(&mut input).unwrap()).collect()
    }
}

/// So many messages.
fn messages(client: &mut Client, count: usize) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    for number in 0..count {
        let mark = encoder.begin(client.next_txnr().unwrap(), Command::Syslog, &mut out);
        out.extend_from_slice(format!("<13>Nov 22 10:00:00 h app: {number}").as_bytes());
        encoder.end(mark, &mut out);
    }
    out
}

#[test]
fn a_sender_that_never_reads_is_let_go() {
    on_a_shard(async || {
        let mut rig = Rig::new("acknowledge: received");
        let mut client = rig.open().await;
        let octets = messages(&mut client, 200_000);
        // It is not read any more, and then the pipe breaks.
        rig.sender.write_all(&octets).await.unwrap_err();
        let meters = rig.meters();
        assert_eq!((meters.unread_closed.value(), meters.unacknowledged.value()), (1, 0));
        let taken = meters.received.value();
        assert!((100..20_000).contains(&taken), "{taken} messages were taken from who does not listen");
        rig.ended.await.unwrap();
    });
}

#[test]
fn a_connection_with_too_much_unsettled_is_not_read_until_that_is_settled() {
    on_a_shard(async || {
        let mut rig = Rig::new("acknowledge: released");
        let mut client = rig.open().await;
        let count = 3 * UNSETTLED_MAX;
        let octets = messages(&mut client, count);
        let (mut reader, mut writer) = tokio::io::split(rig.sender);
        let writing = spawn_local(async move {
            writer.write_all(&octets).await.unwrap();
            writer
        });
        let meters = Arc::clone(rig.pipeline.meters());
        let meters = &meters.inputs[0];
        while meters.unacknowledged.value() < UNSETTLED_MAX as u64 {
            yield_now().await;
        }
        for _ in 0..1_000 {
            yield_now().await;
        }
        let unacknowledged = meters.unacknowledged.value();
        assert!(unacknowledged < (UNSETTLED_MAX + 5_000) as u64, "{unacknowledged}");
        assert_eq!((meters.acknowledged.value(), meters.received.value()), (0, unacknowledged));
        let mut buffer = [0; 4096];
        while client.acknowledged() < count as u64 {
            release_all(&rig.pipeline);
            let Ok(read) = timeout(Duration::from_millis(1), reader.read(&mut buffer)).await else { continue };
            let mut input = &buffer[..read.unwrap()];
            assert_eq!(client.next_event(&mut input).unwrap(), None);
        }
        assert_eq!((meters.acknowledged.value(), meters.unacknowledged.value()), (count as u64, 0));
        drop((reader, writing.await.unwrap()));
        rig.ended.await.unwrap();
    });
}

/// A stop has begun, and ten messages are not settled.
async fn stopping_with_ten() -> (Rig, Client) {
    let mut rig = Rig::new("acknowledge: released");
    let mut client = rig.open().await;
    let octets = messages(&mut client, 10);
    rig.sender.write_all(&octets).await.unwrap();
    rig.until(|meters| meters.unacknowledged.value() == 10).await;
    rig.stopper.stop(Instant::now() + Duration::from_secs(30));
    (rig, client)
}

#[test]
fn a_stop_waits_for_what_is_not_settled_and_says_goodbye() {
    on_a_shard(async || {
        let (mut rig, mut client) = stopping_with_ten().await;
        // It brings no more messages, and waits all the same.
        assert!(rig.all_ended.recv().await.is_none());
        assert!(!rig.ended.is_finished());
        release_all(&rig.pipeline);
        assert_eq!(rig.rest(&mut client).await, [client::Event::ServerClosing]);
        assert_eq!(client.acknowledged(), 10);
        rig.ended.await.unwrap();
    });
}

#[test]
fn a_stop_that_ends_leaves_to_the_sender_what_is_not_settled() {
    on_a_shard(async || {
        let (mut rig, mut client) = stopping_with_ten().await;
        rig.closer.stop(Instant::now());
        assert_eq!(rig.rest(&mut client).await, [client::Event::ServerClosing]);
        assert_eq!((client.acknowledged(), rig.meters().unacknowledged.value()), (0, 0));
        rig.ended.await.unwrap();
    });
}

#[test]
fn a_close_is_answered_when_everything_is_settled() {
    on_a_shard(async || {
        let mut rig = Rig::new("acknowledge: released");
        let mut client = rig.open().await;
        let mut octets = messages(&mut client, 10);
        client.close(&mut octets);
        rig.sender.write_all(&octets).await.unwrap();
        rig.until(|meters| meters.unacknowledged.value() == 10).await;
        release_all(&rig.pipeline);
        assert_eq!(rig.rest(&mut client).await, [client::Event::Closed, client::Event::ServerClosing]);
        assert_eq!(client.acknowledged(), 10);
        rig.ended.await.unwrap();
    });
}

#[test]
fn idle_is_who_sends_nothing_and_waits_for_nothing() {
    on_a_shard(async || {
        let mut rig = Rig::new("acknowledge: released, idle_timeout: 1s");
        let mut client = rig.open().await;
        let octets = messages(&mut client, 1);
        rig.sender.write_all(&octets).await.unwrap();
        rig.until(|meters| meters.unacknowledged.value() == 1).await;
        sleep(Duration::from_millis(1_300)).await;
        assert_eq!((rig.meters().idle_closed.value(), rig.ended.is_finished()), (0, false));
        release_all(&rig.pipeline);
        assert_eq!(rig.rest(&mut client).await, [client::Event::ServerClosing]);
        assert_eq!((client.acknowledged(), rig.meters().idle_closed.value()), (1, 1));
    });
}

#[test]
fn what_is_no_relp_is_counted_and_sent_away() {
    on_a_shard(async || {
        let mut rig = Rig::new("acknowledge: received");
        rig.sender.write_all(b"<13>a message in no frame\n").await.unwrap();
        let mut octets = Vec::new();
        rig.sender.read_to_end(&mut octets).await.unwrap();
        assert_eq!(octets, b"0 serverclose 0\n");
        assert_eq!((rig.meters().relp_errors.value(), rig.meters().received.value()), (1, 0));
    });
}
