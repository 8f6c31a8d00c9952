//! What keeps a shard's lanes and the spool together: waits for answers and for time to pass, so that nobody else must.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tracing::error;

use crate::pipeline::{Pipeline, SPOOL_TICK};
use crate::time::sleep_until_some;

/// How long a message that must be stored before it is sent waits for company.
const LINGER: Duration = Duration::from_millis(2);

/// How long a stop waits for messages that are to be sent next and are on their way to the disk.
const SETTLE: Duration = Duration::from_millis(500);

/// What is left of a stop for the spool once forwarders have ended: a fifth, and no more than a few thousand blocks need.
const RESERVE_MAX: Duration = Duration::from_secs(2);

/// Does `what`, and meanwhile all that the lanes and the spool want of each other.
pub(super) async fn beside<T>(pipeline: &Pipeline, what: impl Future<Output = T>) -> T {
    tokio::select! {
        done = what => done,
        never = run(pipeline) => match never {},
    }
}

/// Never ends; may be dropped at any await.
async fn run(pipeline: &Pipeline) -> Infallible {
    if !pipeline.has_spool() {
        return std::future::pending().await;
    }
    let mut ticks = interval(SPOOL_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut linger = None;
    loop {
        tokio::select! {
            biased;
            () = pipeline.spool_answered() => pipeline.spool_answers(),
            () = sleep_until_some(linger) => {
                linger = None;
                pipeline.seal_lingering();
            }
            () = pipeline.lingering() => linger = Some(linger.unwrap_or_else(|| Instant::now() + LINGER)),
            _ = ticks.tick() => pipeline.spool_tick(SystemTime::now()),
        }
    }
}

/// Receivers have ended. Prepares the lanes for the stop, and says when forwarders must have ended: with a spool, in time
/// for the rest to go there.
pub(super) async fn forwarders_deadline(pipeline: &Pipeline, deadline: Instant) -> Instant {
    if !pipeline.can_spool() {
        return deadline;
    }
    pipeline.seal_lingering();
    let settled = deadline.min(Instant::now() + SETTLE);
    while pipeline.is_settling() && Instant::now() < settled {
        sleep_until(settled.min(Instant::now() + LINGER)).await;
    }
    pipeline.close_spool();
    let left = deadline.saturating_duration_since(Instant::now());
    deadline.checked_sub((left / 5).min(RESERVE_MAX)).unwrap_or(deadline)
}

/// Forwarders have ended. Sends all that is left to the disk, and waits until it is there.
pub(super) async fn empty(pipeline: &Pipeline, deadline: Instant) {
    if !pipeline.has_spool() {
        return;
    }
    pipeline.empty_into_spool();
    let emptied = async {
        while !pipeline.is_spooled() {
            // Both: an answer may come while nobody waits for it.
            tokio::select! {
                () = pipeline.spool_answered() => pipeline.spool_answers(),
                () = sleep_until(Instant::now() + SPOOL_TICK) => pipeline.spool_tick(SystemTime::now()),
            }
        }
    };
    // What is late is counted and said by the caller.
    let _late = timeout_at(deadline, emptied).await;
}

/// Counts what is neither delivered nor spooled as dropped, and says so. Returns how many messages.
pub(super) fn drop_rest(pipeline: &Pipeline) -> u64 {
    let messages = pipeline.drop_all_waiting();
    if messages > 0 {
        error!(messages, "shutdown_timeout ended before these messages could be delivered or spooled: they are lost");
    }
    messages
}
