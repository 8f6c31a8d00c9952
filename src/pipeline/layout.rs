//! Which lanes and queues there are, and which lane goes by which queue: made at the start, and changed by a reload.
//!
//! Nothing that has a number ever goes: a route that left the configuration keeps its lane, and what waits in it goes out as
//! it would have. A route that comes back finds it again.

use std::rc::Rc;

use crate::config::{Acknowledge, Action, Config, Durability, Listen, Order, Protocol};
use crate::lane::Lane;
use crate::route::{Matcher, Rule};
use crate::spool::{Roster, RosterLane};

use super::turn::Tally;
use super::{Inner, PLENTY_BYTES, Pipeline, Queue, Way};

/// What was laid out so far.
#[derive(Debug)]
pub(super) struct Layout {
    shard: usize,
    /// By route: its own lane.
    owns: Vec<Option<usize>>,
    /// Lanes of new messages, each with the lane of its route's that is sent second: with `order: newest_first` and a spool
    /// new messages go to one that the disk is behind of, and is sent first. Those that it has no room for go to the route's
    /// own, and by way of the disk.
    lives: Vec<(usize, usize)>,
    /// By queue.
    keys: Vec<Key>,
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    output: usize,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the output's connections, which its routes share.
    Connection(usize),
    /// Over HTTPS this route's own: a request carries one key.
    Route(usize),
}

impl Layout {
    /// Nothing yet.
    pub(super) const fn of_shard(shard: usize) -> Self {
        Self { shard, owns: Vec::new(), lives: Vec::new(), keys: Vec::new() }
    }
}

impl Pipeline {
    /// Lays out what `config` asks for besides what is there, and routes by it from now on. `budget_bytes` are the queues'
    /// memory. Call it between two turns.
    pub fn arrange(&self, config: &Config, budget_bytes: usize) {
        let mut layout = self.layout.borrow_mut();
        let mut inner = self.inner.borrow_mut();
        let is_first = layout.keys.is_empty() && layout.owns.is_empty();
        self.add_queues(config, &mut layout);
        let from = self.lanes.len();
        self.add_lanes(config, &mut layout, &mut inner);
        self.assign(config, &mut layout, &mut inner);
        self.fill_queues(config, &layout, &mut inner, budget_bytes);
        inner.take_rules(config, &layout);
        *self.input_names.borrow_mut() = Rc::clone(&inner.input_names);
        // Who waits for room in a lane may have another one now.
        inner.shelf.blocked.clear();
        self.rooms.iter().for_each(|room| room.notify_waiters());
        let Some(spooling) = &self.spooling else { return };
        spooling.lay_out(self.lanes.len(), &layout.lives, |lane| {
            self.lanes.get(lane).map(|way| durability_of(config, way.route)).unwrap_or(Durability::Overflow)
        });
        let roster = (!is_first).then(|| roster(config, &layout, self.lanes.len()));
        drop((layout, inner));
        self.lanes_were_added(from, roster);
    }

    /// A queue for each connection that there may be.
    fn add_queues(&self, config: &Config, layout: &mut Layout) {
        for (output, entry) in config.outputs.iter().enumerate().filter(|(_, entry)| !entry.retired) {
            let places: Vec<Place> = match entry.protocol {
                Protocol::Https(_) => routes_to(config, output).map(Place::Route).collect(),
                _ => (0..entry.connections_per_shard.max(1)).map(Place::Connection).collect(),
            };
            // A request takes megabytes; there is no hurry to hold them in a core's cache.
            let plenty = if matches!(entry.protocol, Protocol::Https(_)) { usize::MAX } else { PLENTY_BYTES };
            for place in places {
                let key = Key { output, place };
                if !layout.keys.contains(&key) {
                    layout.keys.push(key);
                    self.queues.push(Queue::new(plenty));
                }
            }
        }
    }

    /// A lane for each route that forwards and has none.
    fn add_lanes(&self, config: &Config, layout: &mut Layout, inner: &mut Inner) {
        let mut new = Vec::new();
        layout.owns.resize(config.routes.len(), None);
        for (route, entry) in config.routes.iter().enumerate().filter(|(_, entry)| !entry.retired) {
            let Some(own) = layout.owns.get_mut(route).filter(|own| own.is_none()) else { continue };
            if let Action::Forward { output, .. } = entry.action {
                *own = Some(self.lanes.len() + new.len());
                new.push((route, output));
            }
        }
        for (route, _) in &new {
            self.add_lane(*route, layout.shard, inner);
        }
        for (route, output) in new {
            let order = config.outputs.get(output).map(|output| output.order);
            let Some(own) = layout.owns.get(route).copied().flatten() else { continue };
            if let (Some(Order::NewestFirst { .. }), Some(_)) = (order, &config.spool) {
                layout.lives.push((self.lanes.len(), own));
                self.add_lane(route, layout.shard, inner);
            }
        }
    }

    fn add_lane(&self, route: usize, shard: usize, inner: &mut Inner) {
        /// None has that number.
        const NOWHERE: usize = usize::MAX;
        self.lanes.push(Way { route, queue: NOWHERE.into() });
        self.rooms.push(tokio::sync::Notify::new());
        inner.shelf.lanes.push(Lane::new(shard));
        inner.shelf.tallies.push(Tally::default());
    }

    /// Gives each lane its queue: a route stays on one connection, so that its order is kept; those of one output take its
    /// connections in turn. A lane whose route left, or discards now, stays where it is.
    fn assign(&self, config: &Config, layout: &mut Layout, inner: &mut Inner) {
        let mut turns = vec![0; config.outputs.len()];
        for (lane, way) in self.lanes.iter().enumerate() {
            let is_live = layout.lives.iter().any(|(live, _)| *live == lane);
            let Some(route) = config.routes.get(way.route).filter(|route| !route.retired) else { continue };
            let Action::Forward { output, .. } = route.action else { continue };
            let Some(entry) = config.outputs.get(output) else { continue };
            let is_https = matches!(entry.protocol, Protocol::Https(_));
            let connections = entry.connections_per_shard.max(1);
            let own = layout.lives.iter().find(|(live, _)| *live == lane).map(|(_, own)| *own);
            let place = match (is_https, own.and_then(|own| self.lanes.get(own))) {
                (true, _) => Some(Place::Route(way.route)),
                // With its route's other lane.
                (false, Some(own)) => layout.keys.get(own.queue.get()).map(|key| key.place),
                (false, None) => match layout.keys.get(way.queue.get()) {
                    Some(Key { output: now, place: place @ Place::Connection(nth) })
                        if *now == output && *nth < connections =>
                    {
                        Some(*place)
                    }
                    _ => turns.get(output).map(|turn| Place::Connection(turn % connections)),
                },
            };
            if !is_live && let Some(turn) = turns.get_mut(output) {
                *turn += 1;
            }
            let queue = place.and_then(|place| layout.keys.iter().position(|key| *key == Key { output, place }));
            if let Some(queue) = queue {
                self.move_lane(lane, queue, inner);
            }
        }
    }

    fn move_lane(&self, lane: usize, to: usize, inner: &Inner) {
        let Some(way) = self.lanes.get(lane).filter(|way| way.queue.get() != to) else { return };
        let sendable = inner.shelf.lanes.get(lane).map_or(0, Lane::sendable);
        let has_backlog = self.spooling.as_ref().is_some_and(|spooling| spooling.has_backlog(lane));
        if let Some(from) = self.queues.get(way.queue.replace(to)) {
            from.shrink(sendable);
            from.count_backlog(has_backlog, false);
        }
        if let Some(queue) = self.queues.get(to) {
            queue.grow(sendable);
            queue.count_backlog(false, has_backlog);
        }
    }

    /// Tells queues which lanes they have, and divides the memory among those that may need it.
    fn fill_queues(&self, config: &Config, layout: &Layout, inner: &mut Inner, budget_bytes: usize) {
        let mut lanes_of = vec![(Vec::new(), Vec::new(), Vec::new()); self.queues.len()];
        let mut count = 0;
        for (lane, way) in self.lanes.iter().enumerate() {
            let takes = config
                .routes
                .get(way.route)
                .is_some_and(|route| !route.retired && matches!(route.action, Action::Forward { .. }));
            if !takes && self.is_lane_drained(lane, inner) {
                continue;
            }
            let Some((all, first, second)) = lanes_of.get_mut(way.queue.get()) else { continue };
            count += 1;
            all.push(lane);
            let is_second = layout.lives.iter().any(|(_, own)| *own == lane);
            if is_second { second.push(lane) } else { first.push(lane) }
        }
        for ((queue, key), (all, first, second)) in self.queues.iter().zip(&layout.keys).zip(lanes_of) {
            let share = match config.outputs.get(key.output).map(|output| output.order) {
                Some(Order::NewestFirst { backlog_share }) => usize::from(backlog_share),
                _ => 0,
            };
            queue.serve(all, first, second, share);
        }
        let held = inner.shelf.lanes.iter().map(Lane::held);
        inner.shelf.budget.divide(budget_bytes, count, held);
    }

    /// Whether nothing is left of what the lane had: not in memory, not in flight, not on the disk.
    fn is_lane_drained(&self, lane: usize, inner: &Inner) -> bool {
        let is_empty = inner.shelf.lanes.get(lane).is_none_or(|lane| lane.held() == 0);
        is_empty && self.spooling.as_ref().is_none_or(|spooling| spooling.is_clear(lane))
    }

    /// Whether nothing is left of what the queue's lanes had.
    pub fn is_drained(&self, queue: usize) -> bool {
        let inner = self.inner.borrow();
        self.queues.get(queue).is_none_or(|queue| queue.lanes().iter().all(|lane| self.is_lane_drained(*lane, &inner)))
    }

    /// How many queues there are.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// The output that a queue goes to, and whether `config` has a use for its connection; one that it has none for still
    /// goes on until its queue [is drained](Self::is_drained).
    pub fn use_of(&self, queue: usize, config: &Config) -> Option<(usize, bool)> {
        let layout = self.layout.borrow();
        let Key { output, place } = *layout.keys.get(queue)?;
        let entry = config.outputs.get(output)?;
        let is_https = matches!(entry.protocol, Protocol::Https(_));
        let is_used = !entry.retired
            && match place {
                Place::Connection(nth) => !is_https && nth < entry.connections_per_shard.max(1),
                Place::Route(route) => is_https && routes_to(config, output).any(|other| other == route),
            };
        Some((output, is_used))
    }
}

impl Inner {
    /// Routes as `config` says from now on.
    fn take_rules(&mut self, config: &Config, layout: &Layout) {
        let rules = config.order.iter().filter_map(|number| {
            let route = config.routes.get(*number)?;
            let rule = Rule { conditions: route.conditions.clone(), continues: route.continues };
            Some((rule, u16::try_from(*number).ok()?))
        });
        self.matcher = Matcher::numbered(rules);
        let lane_of = config.routes.iter().zip(&layout.owns).map(|(route, own)| match route.action {
            Action::Forward { .. } if !route.retired => {
                let live = layout.lives.iter().find(|(_, other)| Some(*other) == *own).map(|(live, _)| *live);
                live.or(*own)
            }
            _ => None,
        });
        self.lane_of = lane_of.collect();
        self.discards.resize(config.routes.len(), 0);
        self.clocks.change(config.inputs.iter().map(|input| input.timezone.clone()).collect());
        self.oversize = config.inputs.iter().map(|input| input.oversize).collect();
        self.input_names = config.inputs.iter().map(|input| input.name.clone()).collect();
    }
}

/// Routes of the configuration that forward to this output.
fn routes_to(config: &Config, output: usize) -> impl Iterator<Item = usize> {
    let routes = config.routes.iter().enumerate().filter(|(_, route)| !route.retired);
    let routes =
        routes.filter(move |(_, route)| matches!(route.action, Action::Forward { output: to, .. } if to == output));
    routes.map(|(index, _)| index)
}

/// How a route's lane is stored: always, where it may have messages that are acknowledged when they are.
pub(super) fn durability_of(config: &Config, route: usize) -> Durability {
    let usual = config.spool.as_ref().map_or(Durability::Overflow, |spool| spool.durability);
    let asks = config.inputs.iter().filter(|input| {
        let is_relp = |listen: &Listen| matches!(listen, Listen::Relp(_) | Listen::RelpTls(_));
        !input.retired && input.acknowledge == Acknowledge::Spooled && input.listen.iter().any(is_relp)
    });
    let only = config.routes.get(route).map(|route| route.conditions.input.as_slice()).unwrap_or_default();
    let is_fed = asks.into_iter().any(|input| only.is_empty() || only.contains(&input.name));
    if is_fed { Durability::Always } else { usual }
}

/// What the spool must know of the lanes.
fn roster(config: &Config, layout: &Layout, lanes: usize) -> Roster {
    let mut by_lane = vec![None; lanes];
    for (number, (route, own)) in config.routes.iter().zip(&layout.owns).enumerate() {
        if let Some(place) = own.and_then(|own| by_lane.get_mut(own)) {
            *place = Some(RosterLane { route: number, name: route.name.clone(), share: route.spool });
        }
    }
    Roster { inputs: config.inputs.iter().map(|input| input.name.clone()).collect(), lanes: by_lane }
}
