use super::*;

fn settled(account: &Account) -> Vec<u32> {
    let mut settled = Vec::new();
    account.take_settled(&mut settled);
    settled
}

fn with(account: &Rc<Account>, txnrs: &[u32], seq: u64) -> Receipts {
    let mut receipts = Receipts::default();
    for txnr in txnrs {
        receipts.add(account, *txnr);
        account.enter(*txnr, 1);
    }
    receipts.seal(Seq(seq));
    receipts
}

#[test]
fn each_sender_is_told_at_its_own_point() {
    let [stored, released] = [When::Stored, When::Released].map(Account::new);
    let mut receipts = with(&stored, &[1, 2], 9);
    assert!(receipts.wait_for_disk(Seq(9)) && !receipts.wait_for_disk(Seq(8)));
    receipts.add(&released, 7);
    released.enter(7, 1);
    receipts.seal(Seq(10));
    for seq in [9, 10] {
        receipts.stored(Seq(seq));
    }
    assert_eq!((settled(&stored), settled(&released)), (vec![1, 2], vec![]));
    assert_eq!((stored.outstanding(), released.outstanding(), receipts.len()), (0, 1, 1));
    receipts.settle(Seq(9));
    receipts.settle(Seq(10));
    receipts.settle(Seq(10));
    assert_eq!((settled(&stored), settled(&released), receipts.is_empty()), (vec![], vec![7], true));
}

#[test]
fn on_reception_no_lane_keeps_anything() {
    let account = Account::new(When::Received);
    let receipts = with(&account, &[1, 2], 9);
    assert_eq!((settled(&account), account.outstanding(), receipts.len()), (vec![1, 2], 0, 0));
}

#[test]
fn a_message_of_several_lanes_waits_for_the_last_of_them() {
    let account = Account::new(When::Released);
    let mut lanes = [Receipts::default(), Receipts::default()];
    for lane in &mut lanes {
        lane.add(&account, 5);
        lane.seal(Seq(1));
    }
    account.enter(5, 2);
    lanes[1].settle(Seq(1));
    assert_eq!((settled(&account), account.outstanding()), (vec![], 1));
    lanes[0].settle(Seq(1));
    assert_eq!((settled(&account), account.outstanding()), (vec![5], 0));
    account.enter(6, 0);
    assert_eq!(settled(&account), [6], "it went nowhere");
}

#[test]
fn what_the_disk_had_and_does_not_give_is_settled() {
    let account = Account::new(When::Released);
    let mut receipts = Receipts::default();
    for txnr in 1..=4 {
        receipts.add(&account, txnr);
        account.enter(txnr, 1);
        receipts.seal(Seq(u64::from(txnr)));
        receipts.set_away(Seq(u64::from(txnr)), txnr != 3);
    }
    receipts.set_away(Seq(2), false);
    receipts.read_up_to(Seq(4));
    assert_eq!(settled(&account), [1]);
    receipts.read_up_to(Seq(u64::MAX));
    assert_eq!(settled(&account), [4]);
}

#[test]
fn those_of_a_sender_that_has_gone_are_forgotten() {
    let [gone, here] = [When::Stored, When::Stored].map(Account::new);
    let mut receipts = with(&gone, &[1, 2], 9);
    receipts.add(&here, 1);
    here.enter(1, 1);
    receipts.seal(Seq(10));
    gone.close();
    assert!(!receipts.wait_for_disk(Seq(9)), "nobody waits");
    receipts.sweep();
    assert_eq!((receipts.len(), receipts.any_wait_for_disk()), (1, true));
    receipts.stored(Seq(10));
    assert_eq!((settled(&gone), settled(&here)), (vec![], vec![1]));
}

#[test]
fn a_lost_batch_voids_the_accounts_of_its_senders() {
    let account = Account::new(When::Stored);
    let mut receipts = with(&account, &[1], 9);
    receipts.set_away(Seq(9), true);
    receipts.void_away();
    assert!(account.is_void() && receipts.is_empty());
    assert!(settled(&account).is_empty());
}
