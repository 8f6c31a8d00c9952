//! A shard's forwarders: which run, and what a reload orders them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio::task::{AbortHandle, JoinSet};

use crate::config::{Output, Protocol};
use crate::forward::{Forwarder, Orders, Renderings, Settings};
use crate::pipeline::{Pipeline, Queue};
use crate::road::Targets;
use crate::stop::Stop;
use crate::tls;

use super::{Common, REQUEST_PARTS, Shares};

/// The forwarders of a shard. Their tasks end with what they could not deliver, or with nothing where they were retired.
pub(super) struct Outlets {
    pipeline: Rc<Pipeline>,
    renderings: Rc<Renderings>,
    stop: Stop,
    /// By queue.
    outlets: Vec<Option<Outlet>>,
}

/// One of them, as it was ordered last.
struct Outlet {
    orders: Rc<Orders>,
    task: AbortHandle,
    output: Arc<Output>,
    tls: Option<Arc<tls::Client>>,
    lane: Option<usize>,
}

impl Outlets {
    /// None yet.
    pub(super) fn new(pipeline: &Rc<Pipeline>, stop: &Stop) -> Self {
        Self { pipeline: Rc::clone(pipeline), renderings: Rc::default(), stop: stop.clone(), outlets: Vec::new() }
    }

    /// As the configuration has it from now on: starts those that are missing, tells those whose output is another, and those
    /// that are no longer wanted.
    pub(super) fn apply(&mut self, common: &Common, shares: Shares, tasks: &mut JoinSet<Option<u64>>) {
        let pipeline = Rc::clone(&self.pipeline);
        self.renderings.take(&common.config, &pipeline);
        self.outlets.resize_with(pipeline.queue_count(), || None);
        for queue in 0..pipeline.queue_count() {
            let Some((index, is_used)) = pipeline.use_of(queue, &common.config) else { continue };
            let Some(settings) = settings_of(common, index, shares) else { continue };
            // Over HTTPS a forwarder is one route's.
            let is_https = matches!(settings.output.protocol, Protocol::Https(_));
            let lane = pipeline.queue(queue).filter(|_| is_https).and_then(Queue::any_lane);
            let running = self.outlets.get_mut(queue).and_then(Option::as_mut);
            match running.filter(|outlet| !outlet.task.is_finished()) {
                Some(outlet) => {
                    let is_same = Arc::ptr_eq(&outlet.output, &settings.output)
                        && outlet.tls.as_ref().map(Arc::as_ptr) == settings.tls.as_ref().map(Arc::as_ptr)
                        && outlet.lane == lane;
                    outlet.lane = lane;
                    if !is_same {
                        outlet.output = Arc::clone(&settings.output);
                        outlet.tls.clone_from(&settings.tls);
                        outlet.orders.change(settings);
                    }
                    outlet.orders.retire(!is_used);
                }
                None if is_used || !pipeline.is_drained(queue) => {
                    let outlet = self.start(common, (index, queue), settings, shares, tasks);
                    outlet.orders.retire(!is_used);
                    if let Some(place) = self.outlets.get_mut(queue) {
                        *place = Some(Outlet { lane, ..outlet });
                    }
                }
                None => {}
            }
        }
    }

    fn start(
        &self,
        common: &Common,
        (output_index, queue): (usize, usize),
        settings: Settings,
        shares: Shares,
        tasks: &mut JoinSet<Option<u64>>,
    ) -> Outlet {
        let orders: Rc<Orders> = Rc::default();
        let Settings { output, tls, targets, file, replay_window } = settings;
        let forwarder = Forwarder {
            output: Arc::clone(&output),
            output_index,
            queue,
            pipeline: Rc::clone(&self.pipeline),
            renderings: Rc::clone(&self.renderings),
            tls: tls.clone(),
            names: common.names.clone(),
            targets,
            file,
            zone: TimeZone::system(),
            replay_window,
            web: Arc::clone(&common.web),
            request_share: shares.queues / REQUEST_PARTS,
            stop: self.stop.clone(),
            orders: Rc::clone(&orders),
            close_unanswered: Cell::new(false),
            unwell_address: Cell::new(None),
            said: common.said.get(output_index).cloned().unwrap_or_default(),
        };
        Outlet { orders, task: tasks.spawn_local(forwarder.run()), output, tls, lane: None }
    }
}

fn settings_of(common: &Common, output: usize, shares: Shares) -> Option<Settings> {
    let entry = common.outputs.get(output)?;
    Some(Settings {
        output: Arc::clone(entry),
        tls: common.connectors.get(output).cloned().flatten(),
        targets: common.targets.get(output).cloned().unwrap_or_else(|| Arc::new(Targets::of(entry))),
        file: common.files.get(output).cloned().flatten(),
        replay_window: entry.replay_window.min(shares.window_max),
    })
}
