//! Receipts: who is to be told that a message is safe, and when it is.
//!
//! A sender that keeps its messages until they are acknowledged has an [`Account`]. Where one of its messages goes into a
//! lane, a receipt is kept beside the lane ([`Receipts`]) under the batch that the message is in. The end of the batch
//! settles it; the account is told once no lane has one of the message any more. Lanes of other senders keep none.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::rc::Rc;
use std::task::Waker;

use crate::batch::Seq;

#[cfg(test)]
mod tests;

/// What has become of a message when its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It is in every lane that it goes to.
    Received,
    /// Every lane has it on the disk, or has done with it.
    Stored,
    /// Every lane has done with it: it is released, or dropped and counted.
    Released,
}

/// One sender's messages that are not acknowledged yet, by the numbers that it gave them. No two of them have the same.
#[derive(Debug)]
pub struct Account {
    when: When,
    books: RefCell<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Messages that are not settled.
    outstanding: usize,
    /// Of those that went to several lanes: how many of these still have them.
    shared: HashMap<u32, usize>,
    /// Numbers of messages that are to be acknowledged.
    settled: Vec<u32>,
    waker: Option<Waker>,
    is_closed: bool,
    is_void: bool,
}

impl Account {
    /// A sender without messages, to be told of each at this point.
    pub fn new(when: When) -> Rc<Self> {
        Rc::new(Self { when, books: RefCell::default() })
    }

    /// Messages that are neither settled nor given up.
    pub fn outstanding(&self) -> usize {
        self.books.borrow().outstanding
    }

    /// Moves the numbers of messages to be acknowledged behind those in `to`, in the order they were settled.
    pub fn take_settled(&self, to: &mut Vec<u32>) {
        to.append(&mut self.books.borrow_mut().settled);
    }

    /// Wakes this one, and no other, when there is something for [`Self::take_settled`], or the account is void.
    pub fn wake(&self, waker: &Waker) {
        let mut books = self.books.borrow_mut();
        if !books.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            books.waker = Some(waker.clone());
        }
    }

    /// Whether a message can never be settled: it is lost to us. Its sender has it; closing the connection makes it send
    /// the message again.
    pub fn is_void(&self) -> bool {
        self.books.borrow().is_void
    }

    /// The sender has gone: nothing more is settled. Its receipts are left to [`Receipts::sweep`].
    pub fn close(&self) {
        *self.books.borrow_mut() = Books { is_closed: true, ..Books::default() };
    }

    fn is_closed(&self) -> bool {
        self.books.borrow().is_closed
    }

    /// A message has gone to so many lanes, which keep a receipt each (but where it is to be settled on reception).
    pub fn enter(&self, txnr: u32, lanes: usize) {
        let mut books = self.books.borrow_mut();
        if lanes == 0 || self.when == When::Received {
            books.settle(txnr);
            return;
        }
        books.outstanding += 1;
        if lanes > 1 {
            books.shared.insert(txnr, lanes);
        }
    }

    /// A lane has done with a message.
    fn settle(&self, txnr: u32) {
        let mut books = self.books.borrow_mut();
        if books.is_closed {
            return;
        }
        if let Some(lanes) = books.shared.get_mut(&txnr) {
            *lanes -= 1;
            if *lanes > 0 {
                return;
            }
            books.shared.remove(&txnr);
        }
        books.outstanding = books.outstanding.saturating_sub(1);
        books.settle(txnr);
    }

    fn void(&self) {
        let mut books = self.books.borrow_mut();
        books.is_void = true;
        books.call();
    }
}

impl Books {
    fn settle(&mut self, txnr: u32) {
        self.settled.push(txnr);
        self.call();
    }

    fn call(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One message of a sender, in one lane.
#[derive(Debug, Clone)]
struct Receipt {
    account: Rc<Account>,
    txnr: u32,
}

/// A lane's receipts, by batch.
#[derive(Debug, Default)]
pub struct Receipts {
    /// Of the open batch.
    open: Vec<Receipt>,
    sealed: BTreeMap<Seq, Sealed>,
    len: usize,
}

/// The receipts of a batch that is sealed.
#[derive(Debug, Default)]
pub struct Sealed {
    receipts: Vec<Receipt>,
    /// The disk has the batch, and memory has not.
    is_away: bool,
}

impl Receipts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A message of this sender is about to be appended to the open batch.
    pub fn add(&mut self, account: &Rc<Account>, txnr: u32) {
        if account.when != When::Received {
            self.open.push(Receipt { account: Rc::clone(account), txnr });
            self.len += 1;
        }
    }

    /// The open batch is sealed.
    pub fn seal(&mut self, seq: Seq) {
        if !self.open.is_empty() {
            self.sealed.insert(seq, Sealed { receipts: mem::take(&mut self.open), is_away: false });
        }
    }

    /// Those of a batch that goes to another lane, for [`Self::put`].
    pub fn take(&mut self, seq: Seq) -> Option<Sealed> {
        let sealed = self.sealed.remove(&seq)?;
        self.len -= sealed.receipts.len();
        Some(sealed)
    }

    /// Those of a batch that came from another lane.
    pub fn put(&mut self, seq: Seq, sealed: Sealed) {
        self.len += sealed.receipts.len();
        self.sealed.insert(seq, sealed);
    }

    /// Whether somebody waits for this batch to be stored.
    pub fn wait_for_disk(&self, seq: Seq) -> bool {
        let waits = |receipt: &Receipt| receipt.account.when == When::Stored && !receipt.account.is_closed();
        self.sealed.get(&seq).is_some_and(|sealed| sealed.receipts.iter().any(waits))
    }

    /// Whether somebody waits for any batch to be stored.
    pub fn any_wait_for_disk(&self) -> bool {
        self.sealed.keys().any(|seq| self.wait_for_disk(*seq))
    }

    /// A batch is stored, and safe there.
    pub fn stored(&mut self, seq: Seq) {
        let Some(sealed) = self.sealed.get_mut(&seq) else { return };
        let before = sealed.receipts.len();
        sealed.receipts.retain(|receipt| {
            let waits_on = receipt.account.when != When::Stored;
            if !waits_on {
                receipt.account.settle(receipt.txnr);
            }
            waits_on
        });
        self.len -= before - sealed.receipts.len();
        if sealed.receipts.is_empty() {
            self.sealed.remove(&seq);
        }
    }

    /// A batch is released, or dropped: nothing more becomes of it.
    pub fn settle(&mut self, seq: Seq) {
        for receipt in self.remove(seq) {
            receipt.account.settle(receipt.txnr);
        }
    }

    /// A batch is lost that its senders may have still.
    pub fn void(&mut self, seq: Seq) {
        for receipt in self.remove(seq) {
            receipt.account.void();
        }
    }

    /// So are all that the disk alone has.
    pub fn void_away(&mut self) {
        let away: Vec<Seq> = self.sealed.iter().filter(|(_, sealed)| sealed.is_away).map(|(seq, _)| *seq).collect();
        away.into_iter().for_each(|seq| self.void(seq));
    }

    /// A batch is on the disk alone, or has come back from there.
    pub fn set_away(&mut self, seq: Seq, is_away: bool) {
        if let Some(sealed) = self.sealed.get_mut(&seq) {
            sealed.is_away = is_away;
        }
    }

    /// The disk has been read, oldest first, up to `end` (not included): what was there alone, and has not come back, was
    /// evicted, damaged or taken out.
    pub fn read_up_to(&mut self, end: Seq) {
        let gone = self.sealed.range(..end).filter(|(_, sealed)| sealed.is_away).map(|(seq, _)| *seq);
        let gone: Vec<Seq> = gone.collect();
        gone.into_iter().for_each(|seq| self.settle(seq));
    }

    /// Forgets those of senders that have gone.
    pub fn sweep(&mut self) {
        self.open.retain(|receipt| !receipt.account.is_closed());
        self.sealed.retain(|_, sealed| {
            sealed.receipts.retain(|receipt| !receipt.account.is_closed());
            !sealed.receipts.is_empty()
        });
        self.len = self.open.len() + self.sealed.values().map(|sealed| sealed.receipts.len()).sum::<usize>();
    }

    fn remove(&mut self, seq: Seq) -> Vec<Receipt> {
        let receipts = self.sealed.remove(&seq).map(|sealed| sealed.receipts).unwrap_or_default();
        self.len -= receipts.len();
        receipts
    }
}
