//! Lanes that come while the relay runs: what earlier runs left of their routes is theirs from then on.

use std::mem;

use crate::batch::Seq;
use crate::spool::block::LaneName;
use crate::spool::inherit::Part;
use crate::spool::{Roster, RosterLane};

use super::Worker;

impl Worker {
    /// All shards tell the same; the first one counts.
    pub(super) fn take_roster(&mut self, roster: Roster) {
        if roster.inputs.len() > self.inputs.len() {
            self.inputs = roster.inputs;
        }
        for (number, lane) in roster.lanes.into_iter().enumerate() {
            if let Some(RosterLane { name, share, .. }) = &lane {
                self.options.shares.insert(name.clone(), *share);
                if let Some(store) = self.store.as_mut() {
                    store.set_share(name, *share);
                }
            }
            if number < self.lanes.len() {
                continue;
            }
            let (route, name) = lane.map_or((usize::MAX, String::new()), |lane| (lane.route, lane.name));
            self.inherited.grow(number + 1);
            self.refused.iter_mut().for_each(|lanes| lanes.resize(number + 1, None));
            self.reporter.lane_came(route, &name);
            self.lanes.push(name);
            self.newcomers.push(number);
        }
        if self.store.is_some() {
            self.welcome();
        }
    }

    /// What the store holds of newcomers' routes was left by earlier runs: it is counted, and sent first.
    pub(super) fn welcome(&mut self) {
        let Some(store) = self.store.as_mut() else { return };
        for lane in mem::take(&mut self.newcomers) {
            let Some(route) = self.lanes.get(lane).filter(|route| !route.is_empty()) else { continue };
            let found: Vec<(LaneName, Seq, u64)> = store
                .lanes()
                .into_iter()
                .filter(|state| state.name.route == *route && state.blocks > 0)
                .map(|state| (state.name, state.last, state.records))
                .collect();
            for (name, last, records) in found {
                self.reporter.recovered(&name.route, records);
                self.desk.shared.raise_floor(last);
                self.inherited.add(lane, Part::new(name, last));
            }
            self.resumes.extend((0..self.desk.shards()).map(|shard| (shard, lane)));
        }
    }
}
