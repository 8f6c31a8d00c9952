//! What one read brought, on its way into the lanes.

use std::cell::RefMut;
use std::mem;
use std::net::IpAddr;
use std::rc::Rc;

use crate::batch::charge_of;
use crate::config::Oversize;
use crate::receipts::Account;
use crate::syslog::frame::Flaw;
use crate::syslog::{Frame, Message, parse, sanitize};
use crate::tap::{Fate, Look};

use super::{Inner, Offer, Pipeline, Shelf, Way, WhenFull};

/// Names that one turn counts: a turn has a few hundred messages of a few programs. A sender who makes up more must not
/// make the search long; frequent names come again in the next turn.
const NAMES_A_TURN: usize = 32;

/// Octets of a name that are kept: RFC 5424 allows 48, a hostile sender sends more.
const NAME_OCTETS_MAX: usize = 64;

/// What one turn did to one lane.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    routed: u64,
    dropped: u64,
    bytes: usize,
}

/// What one turn did to its input.
#[derive(Debug, Default)]
pub(super) struct InputTally {
    received: u64,
    bytes: u64,
    rejected_oversize: u64,
    rejected_peer: u64,
    discarded: u64,
    unmatched: u64,
    routed: u64,
    truncated: u64,
    unfinished: u64,
}

/// Who waits to hear of a message: its account, the message's number, and how many lanes have taken it.
type Sender<'a> = (&'a Rc<Account>, u32, &'a mut usize);

/// What one read brought, on its way into the lanes. Dropping it updates the meters and wakes the forwarders.
pub struct Turn<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) inner: RefMut<'a, Inner>,
    pub(super) input: usize,
    pub(super) tally: InputTally,
    /// Where somebody taps what arrives.
    pub(super) look: Option<Box<Look>>,
}

impl Turn<'_> {
    /// Takes one frame from `peer`: counts it, parses it, finds its routes and appends it to their lanes.
    pub fn offer(&mut self, frame: Frame<'_>, peer: Option<IpAddr>, when_full: WhenFull) -> Offer {
        self.offer_from(frame, peer, when_full, None)
    }

    /// The same for a sender that waits to hear what becomes of the message, which it has given this number. Whatever was
    /// [taken](Offer::Taken) is settled one day.
    pub fn offer_for(
        &mut self,
        (account, txnr): (&Rc<Account>, u32),
        frame: Frame<'_>,
        peer: Option<IpAddr>,
        when_full: WhenFull,
    ) -> Offer {
        let mut lanes = 0;
        let offer = self.offer_from(frame, peer, when_full, Some((account, txnr, &mut lanes)));
        if offer == Offer::Taken {
            account.enter(txnr, lanes);
        }
        offer
    }

    fn offer_from(
        &mut self,
        frame: Frame<'_>,
        peer: Option<IpAddr>,
        when_full: WhenFull,
        mut sender: Option<Sender<'_>>,
    ) -> Offer {
        let oversize = frame.flaw == Some(Flaw::Oversize);
        if oversize && self.inner.oversize.get(self.input) == Some(&Oversize::Reject) {
            self.tally.rejected_oversize += 1;
            self.count_received(frame.bytes);
            return Offer::Taken;
        }
        let Inner { matcher, hits, lane_of, scratch, clocks, shelf, input_names, discards, unmatched, .. } =
            &mut *self.inner;
        let raw = sanitize(frame.bytes, scratch);
        if raw.is_empty() {
            // A bare line end is a trailer without a message.
            return Offer::Taken;
        }
        let fields = parse(raw, clocks.of(self.input));
        let input_name = input_names.get(self.input).map(String::as_str).unwrap_or_default();
        let message = Message { fields: &fields, raw, received_at_us: clocks.now_us(), peer, input: input_name };
        matcher.route(&message, hits);
        let charge = charge_of(&message);
        let lanes_hit = || hits.iter().filter_map(|route| lane_of.get(usize::from(*route)).copied().flatten());
        if when_full == WhenFull::Wait
            && let Some(full) = lanes_hit().find(|lane| !shelf.has_room(*lane))
        {
            shelf.wait_for(full);
            return Offer::Full(full);
        }
        let mut forwarded = false;
        for lane in lanes_hit() {
            let is_taken = shelf.push(lane, &message, self.input as u16, charge, when_full, sender.as_ref());
            forwarded = true;
            if let Some((_, _, lanes)) = sender.as_mut() {
                **lanes += usize::from(is_taken);
            }
        }
        if forwarded {
            self.tally.routed += 1;
        } else if let Some(route) = hits.first() {
            self.tally.discarded += 1;
            if let Some(discards) = discards.get_mut(usize::from(*route)) {
                *discards += 1;
            }
        } else {
            self.tally.unmatched += 1;
            count_name(unmatched, message.program_name());
        }
        if let Some(look) = &mut self.look {
            let fate = match (forwarded, hits.first()) {
                (true, _) => Fate::Routed,
                (false, Some(_)) => Fate::Discarded,
                (false, None) => Fate::Unmatched,
            };
            look.received(&message, self.input as u16, fate, hits);
        }
        self.tally.truncated += u64::from(oversize);
        self.tally.unfinished += u64::from(frame.flaw == Some(Flaw::Unfinished));
        self.count_received(frame.bytes);
        Offer::Taken
    }

    /// Counts a message from a peer that may not send.
    pub fn reject_peer(&mut self, bytes: &[u8]) {
        self.tally.rejected_peer += 1;
        self.count_received(bytes);
    }

    fn count_received(&mut self, bytes: &[u8]) {
        self.tally.received += 1;
        self.tally.bytes += bytes.len() as u64;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let meters = &self.pipeline.meters;
        if let Some(input) = meters.inputs.get(self.input) {
            let tally = &self.tally;
            input.received.add(tally.received);
            input.received_bytes.add(tally.bytes);
            input.rejected_oversize.add(tally.rejected_oversize);
            input.rejected_peer.add(tally.rejected_peer);
            input.discarded.add(tally.discarded);
            input.unmatched.add(tally.unmatched);
            input.routed.add(tally.routed);
            input.truncated.add(tally.truncated);
            input.unfinished.add(tally.unfinished);
        }
        let Inner { shelf, discards, unmatched, .. } = &mut *self.inner;
        if self.tally.discarded > 0 {
            for (route, discarded) in meters.routes.iter().zip(discards) {
                route.discarded.add(mem::take(discarded));
            }
        }
        if !unmatched.is_empty() {
            meters.unmatched_programs.add(unmatched);
            unmatched.clear();
        }
        let mut touched = mem::take(&mut shelf.touched);
        for lane in &touched {
            let tally = shelf.tallies.get_mut(*lane).map(mem::take).unwrap_or_default();
            self.pipeline.publish(shelf, *lane, tally);
        }
        if let Some(spooling) = &self.pipeline.spooling {
            self.pipeline.work(spooling, shelf).after_turn(&touched);
        }
        touched.clear();
        shelf.touched = touched;
    }
}

impl Pipeline {
    /// Adds a turn's tally of one lane to the meters, and wakes its forwarder.
    fn publish(&self, shelf: &Shelf, lane: usize, tally: Tally) {
        let Some(Way { route, queue }) = self.lanes.get(lane) else { return };
        let queue = queue.get();
        if let Some(meters) = self.meters.routes.get(*route) {
            meters.routed.add(tally.routed);
            meters.dropped_full.add(tally.dropped);
            meters.waiting.add((tally.routed - tally.dropped) as i64);
            meters.waiting_bytes.add(tally.bytes as i64);
        }
        // What goes to the disk first is nothing that a forwarder could take.
        let is_sendable = shelf.lanes.get(lane).is_some_and(|lane| !lane.is_on_detour());
        if let Some(wakes) = self.queues.get(queue).filter(|_| is_sendable) {
            wakes.grow(tally.bytes);
            let plenty = tally.bytes > 0 && wakes.is_flowing() && wakes.waiting() > wakes.plenty;
            if plenty && self.live_bytes(shelf, wakes) > wakes.plenty {
                self.plenty.set(Some(queue));
            }
        }
    }
}

impl Shelf {
    fn has_room(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.has_room(&self.budget))
    }

    fn wait_for(&mut self, lane: usize) {
        if !self.blocked.contains(&lane) {
            self.blocked.push(lane);
        }
    }

    /// Appends to the lane, or drops the message where it has no room: whether it was taken.
    fn push(
        &mut self,
        index: usize,
        message: &Message<'_>,
        input: u16,
        charge: usize,
        when_full: WhenFull,
        sender: Option<&Sender<'_>>,
    ) -> bool {
        let (Some(lane), Some(tally)) = (self.lanes.get_mut(index), self.tallies.get_mut(index)) else { return false };
        if tally.routed == 0 {
            self.touched.push(index);
        }
        tally.routed += 1;
        if when_full == WhenFull::Take || lane.has_room(&self.budget) {
            if let Some((account, txnr, _)) = sender {
                // First: the message may be the batch's last.
                lane.receipts().add(account, *txnr);
            }
            lane.push(message, input, &mut self.budget);
            tally.bytes += charge;
            true
        } else {
            tally.dropped += 1;
            false
        }
    }
}

/// Counts a name in a turn's short list.
fn count_name(counts: &mut Vec<(Box<[u8]>, u64)>, name: &[u8]) {
    let name = name.get(..NAME_OCTETS_MAX).unwrap_or(name);
    let has_place = counts.len() < NAMES_A_TURN;
    match counts.iter_mut().find(|(known, _)| **known == *name) {
        Some((_, count)) => *count += 1,
        None if has_place => counts.push((name.into(), 1)),
        None => {}
    }
}
