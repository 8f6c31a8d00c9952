//! What holds for any octets: for the fuzzer and for the property tests. Panics where it does not hold.

use super::{decode, encode};
use crate::batch::Batch;

/// For fuzzing: octets as a block holds them. What is read is written, and read again as the same.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let inputs = ["lan".to_owned(), "wan".to_owned()];
    let Ok(batch) = decode(data, &inputs) else { return };
    for message in batch.messages(&inputs) {
        let fields = message.fields;
        let optional = [fields.hostname, fields.app_name, fields.procid, fields.msgid, fields.structured_data];
        for span in optional.into_iter().flatten().chain([fields.tag, fields.msg]) {
            assert!(span.start as usize + span.len as usize <= message.raw.len(), "{span:?} of {}", message.raw.len());
        }
        assert!(fields.timestamp.is_none_or(|timestamp| timestamp.exists()), "{:?}", fields.timestamp);
    }
    let mut octets = Vec::new();
    encode(&batch, &inputs, &mut octets);
    let again = decode(&octets, &inputs);
    assert!(again.is_ok_and(|again| same(&again, &batch, &inputs)), "it is another one when it is read again");
}

/// Whether both hold the same records.
pub(super) fn same(one: &Batch, other: &Batch, inputs: &[String]) -> bool {
    let parts = |batch: &Batch| -> Vec<_> {
        let messages = batch.messages(inputs);
        messages.map(|m| (*m.fields, m.raw.to_vec(), m.received_at_us, m.peer, m.input.to_owned())).collect()
    };
    parts(one) == parts(other)
}
