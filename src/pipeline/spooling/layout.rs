//! Which lanes the spool knows, at the start and when some come.

use crate::config::Durability;
use crate::lane::Lane;
use crate::pipeline::Pipeline;
use crate::spool::{Command, Roster};

use super::{Mode, Place, Spooling, Work};

/// The places of lanes; a lane that the spool does not know has none.
#[derive(Debug, Default)]
pub(super) struct ByLane(Vec<Option<Place>>);

impl ByLane {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, lane: usize) -> Option<&Place> {
        self.0.get(lane)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, lane: usize) -> Option<&mut Place> {
        self.0.get_mut(lane)?.as_mut()
    }

    pub(super) fn push(&mut self, place: Option<Place>) {
        self.0.push(place);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        self.0.iter_mut().flatten()
    }
}

impl Spooling {
    /// There are `count` lanes now. What is stored always once goes on to be: some of it may be on its way.
    pub(in crate::pipeline) fn lay_out(
        &self,
        count: usize,
        lives: &[(usize, usize)],
        durability: impl Fn(usize) -> Durability,
    ) {
        let mut places = self.places.borrow_mut();
        let mut durabilities = self.durabilities.borrow_mut();
        let is_live = |lane: usize| lives.iter().any(|(live, _)| *live == lane);
        for lane in places.lanes.len()..count {
            places.lanes.push((!is_live(lane)).then(Place::new));
            durabilities.push(Durability::Overflow);
        }
        for (lane, known) in durabilities.iter_mut().enumerate() {
            // Where new messages go first they go past the disk.
            let goes_past = is_live(lane) || lives.iter().any(|(_, own)| *own == lane);
            if *known != Durability::Always && !goes_past {
                *known = durability(lane);
            }
        }
        self.lives.replace(lives.to_vec());
    }

    /// Whether a connection would bring something of the lane from the disk.
    pub(in crate::pipeline) fn has_backlog(&self, lane: usize) -> bool {
        self.places.borrow().lanes.get(lane).is_some_and(Place::has_backlog)
    }

    /// Whether nothing of the lane is on the disk alone, or on its way there.
    pub(in crate::pipeline) fn is_clear(&self, lane: usize) -> bool {
        self.places.borrow().lanes.get(lane).is_none_or(Place::is_clear)
    }
}

impl Pipeline {
    /// Lanes have come, from this one on: they begin behind what earlier runs left. `roster` tells the spool of them, where it
    /// does not know them yet.
    pub(in crate::pipeline) fn lanes_were_added(&self, from: usize, roster: Option<Roster>) {
        self.with_spool(|work| {
            if let Some(roster) = roster {
                work.tell(Command::Roster(Box::new(roster)));
            }
            for lane in from..work.places.lanes.len() {
                work.on(lane, Work::go_behind);
                // Most often nothing is there, and what comes meanwhile need not go there either.
                if let Some(place) = work.places.lanes.get_mut(lane) {
                    place.is_catching_up = true;
                }
            }
            // Those that are stored always from now on.
            for lane in 0..from {
                let is_direct = work.places.lanes.get(lane).is_some_and(|place| place.mode == Mode::Direct);
                let is_on_detour = work.shelf.lanes.get(lane).is_some_and(Lane::is_on_detour);
                if is_direct && !is_on_detour && work.spooling.is_always(lane) {
                    work.on(lane, Work::go_direct);
                }
            }
        });
    }
}
