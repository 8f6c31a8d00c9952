//! A shard's listeners: which run, and what a reload changes of them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep};

use crate::config::Listen;
use crate::pipeline::Pipeline;
use crate::receive::{self, Bound, Current, Manner, Receivers, Shared, Socket};
use crate::stop::{self, Stopper};

use super::Common;

/// How long connections of a listener that left the configuration go on: what has arrived is read within a third of it, and RELP
/// senders hear of what is settled by its end.
const LEAVE: Duration = Duration::from_secs(5);

/// The listeners of a shard.
pub(super) struct Inlets {
    pipeline: Rc<Pipeline>,
    shared: Rc<Shared>,
    /// See [`Receivers`]; dropped with the order to stop.
    alive: Option<mpsc::Sender<()>>,
    settling: Option<mpsc::Sender<()>>,
    inlets: Vec<Inlet>,
    /// Tasks that have been told to end, and have not been seen to.
    ending: usize,
}

/// One of them.
struct Inlet {
    input: usize,
    /// `None`: it tells our own counts.
    listen: Option<Listen>,
    current: Current,
    stop: Stopper,
    close: Stopper,
}

impl Inlets {
    /// None yet. Whoever holds one of these may still bring messages, or have some to acknowledge.
    pub(super) fn new(pipeline: &Rc<Pipeline>, alive: mpsc::Sender<()>, settling: mpsc::Sender<()>) -> Self {
        Self {
            pipeline: Rc::clone(pipeline),
            shared: Rc::default(),
            alive: Some(alive),
            settling: Some(settling),
            inlets: Vec::new(),
            ending: 0,
        }
    }

    /// As the configuration has it from now on: ends what it has no more, changes the others, starts what is `bound`.
    ///
    /// # Errors
    /// When a socket cannot be read: all that can be are.
    pub(super) fn apply(&mut self, common: &Common, bound: Vec<Bound>, tasks: &mut JoinSet<()>) -> std::io::Result<()> {
        for mut inlet in std::mem::take(&mut self.inlets) {
            let kept = inlet.listen.as_ref().map(|listen| receive::kept(&common.config, inlet.input, listen));
            let stays = match kept {
                Some(Some((input, listen))) => {
                    inlet.change(common, input, listen);
                    true
                }
                Some(None) => false,
                None => common
                    .config
                    .inputs
                    .get(inlet.input)
                    .is_some_and(|input| !input.retired && input.impstats.is_some()),
            };
            if stays { self.inlets.push(inlet) } else { self.end(&inlet) }
        }
        let mut started = Ok(());
        for bound in bound {
            started = started.and(self.start(common, bound, tasks));
        }
        started
    }

    fn start(&mut self, common: &Common, bound: Bound, tasks: &mut JoinSet<()>) -> std::io::Result<()> {
        let Bound { input, mut socket, inherited, listen, .. } = bound;
        if let Socket::Impstats(counts) = socket {
            match self.inlets.iter().find(|inlet| inlet.listen.is_none() && inlet.input == input) {
                Some(inlet) => {
                    inlet.current.count(counts);
                    return Ok(());
                }
                None => socket = Socket::Impstats(counts),
            }
        }
        let (Some(config), Some(gate)) = (common.inputs.get(input), common.gates.get(input)) else { return Ok(()) };
        let ((stop, stopping), (close, closing)) = (stop::channel(), stop::channel());
        let Some(settling) = self.settling.clone() else { return Ok(()) };
        let receivers = Receivers {
            input: Arc::clone(config),
            input_index: input,
            gate: Arc::clone(gate),
            inherited,
            tls: common.acceptors.get(input).cloned().flatten(),
            manner: listen.as_ref().map(Manner::of).unwrap_or_default(),
            pipeline: Rc::clone(&self.pipeline),
            shared: Rc::clone(&self.shared),
            stop: stopping,
            alive: self.alive.clone(),
            settling,
            closing,
        };
        let current = receivers.start(socket, tasks)?;
        self.inlets.push(Inlet { input, listen, current, stop, close });
        Ok(())
    }

    /// What has arrived is taken, and connections are closed.
    fn end(&mut self, inlet: &Inlet) {
        inlet.stop.stop(Instant::now() + LEAVE);
        self.ending += 1;
        let close = inlet.close.clone();
        spawn_local(async move {
            sleep(LEAVE).await;
            close.stop(Instant::now());
        });
    }

    /// A listener's task has ended: whether it was told to.
    pub(super) fn was_told_to_end(&mut self) -> bool {
        let was_told = self.ending > 0;
        self.ending = self.ending.saturating_sub(1);
        was_told
    }

    /// All of them take what has arrived, and end by `deadline`.
    pub(super) fn stop(&mut self, deadline: Instant) {
        self.alive = None;
        for inlet in &self.inlets {
            // The listener's task has its own, for as long as it takes something.
            inlet.current.change(|receivers| receivers.alive = None);
            inlet.stop.stop(deadline);
        }
    }

    /// Nothing more will be settled.
    pub(super) fn close(&mut self, now: Instant) {
        self.settling = None;
        // With what they hold: whoever waits for the last of them waits for connections only.
        self.inlets.drain(..).for_each(|inlet| inlet.close.stop(now));
    }
}

impl Inlet {
    fn change(&mut self, common: &Common, input: usize, listen: Listen) {
        let (Some(config), Some(gate)) = (common.inputs.get(input), common.gates.get(input)) else { return };
        self.current.change(|receivers| {
            receivers.input = Arc::clone(config);
            receivers.input_index = input;
            receivers.gate = Arc::clone(gate);
            receivers.tls = common.acceptors.get(input).cloned().flatten();
            receivers.manner = Manner::of(&listen);
        });
        self.input = input;
        self.listen = Some(listen);
    }
}
