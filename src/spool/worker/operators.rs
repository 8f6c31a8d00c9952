//! What operators ask for.

use tracing::warn;

use crate::spool::block::LaneName;
use crate::spool::control::{self, Answer, Dropped, Op, Stat};
use crate::spool::inherit::Part;

use super::Worker;

impl Worker {
    /// The socket, where it is not there: at the start, and when the folder was made again.
    pub(super) fn serve_operators(&mut self) {
        if self.store.is_none() || (self.server.is_some() && self.options.dir.join(control::SOCKET).exists()) {
            return;
        }
        self.server = match control::serve(&self.options.dir, self.controls_tx.clone()) {
            Ok(server) => Some(server),
            Err(error) => {
                warn!("`forebay spool` cannot reach this relay: no socket in the spool's folder: {error}");
                None
            }
        };
    }

    pub(super) fn control(&mut self, control::Request { op, reply }: control::Request) {
        let imported = match &op {
            Op::Import { route, records, .. } => Some((route.clone(), *records)),
            _ => None,
        };
        let is_changed = !matches!(op, Op::Stat | Op::List { .. });
        let state = self.desk.shared.state().name();
        let answer = match self.store.as_mut() {
            Some(store) => match control::handle(op, store) {
                Answer::Stat(stat) => Answer::Stat(Stat { state: Some(state.to_owned()), ..stat }),
                answer => answer,
            },
            None => Answer::Failed("the spool's disk does not work at the moment: see the relay's log".to_owned()),
        };
        match &answer {
            Answer::Done => {
                if let Some((route, records)) = imported {
                    self.imported(&route, records);
                }
            }
            Answer::Dropped(dropped) => {
                for Dropped { route, records, .. } in dropped {
                    self.reporter.dropped_by_operator(route, *records);
                }
                self.settle_all();
            }
            _ => {}
        }
        self.is_dirty |= is_changed;
        // It has room for the one answer; who asked may have gone.
        drop(reply.try_send(answer));
    }

    /// A block was put behind what earlier runs left of its route, and is sent as such.
    pub(super) fn imported(&mut self, route: &str, records: u32) {
        self.reporter.recovered(route, u64::from(records));
        let lane = self.lanes.iter().position(|known| known == route);
        let Some((store, lane)) = self.store.as_ref().zip(lane) else { return };
        let name = LaneName { route: route.to_owned(), shard: control::IMPORT_SHARD };
        self.inherited.add(lane, Part::new(name.clone(), store.last_seq(&name)));
        self.resume(lane);
    }
}
