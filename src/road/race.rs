//! Happy eyeballs (RFC 8305 section 5): several addresses, one after the other, without waiting long for any.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long an attempt has the road for itself (RFC 8305 section 5 recommends so much).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses that are left to try.
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
}

/// An attempt that runs.
type Attempt<S> = (SocketAddr, Pin<Box<dyn Future<Output = io::Result<S>>>>);

/// An address, and what came of it.
pub(super) type Outcome<S> = (SocketAddr, io::Result<S>);

impl Race {
    /// Between `addresses`, the first first.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { waiting: addresses.into() }
    }

    /// The first address to connect, within `limit`, or the last error when none does; `None` when none is left.
    /// The next attempt begins when the last one fails, or after a quarter of a second beside it. Those that
    /// have lost are closed and run again in the next race, should the winner turn out to be of no use.
    pub(super) async fn winner<S, F>(
        &mut self,
        limit: Duration,
        connect: impl Fn(SocketAddr) -> F,
    ) -> Option<Outcome<S>>
    where
        F: Future<Output = io::Result<S>> + 'static,
    {
        let deadline = Instant::now() + limit;
        // All have their turn, however short the time.
        let turns = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX).saturating_add(1);
        let delay = ATTEMPT_DELAY.min(limit / turns);
        let mut running: Vec<Attempt<S>> = Vec::new();
        let mut failed = None;
        loop {
            if let Some(peer) = self.waiting.pop_front() {
                running.push((peer, Box::pin(connect(peer))));
            } else if running.is_empty() {
                return failed;
            }
            let next_at = if self.waiting.is_empty() { deadline } else { deadline.min(Instant::now() + delay) };
            let ended = tokio::select! {
                biased;
                ended = first_of(&mut running) => Some(ended),
                () = sleep_until(next_at) => None,
            };
            match ended {
                Some((peer, Ok(stream))) => {
                    for (loser, _) in running.into_iter().rev() {
                        self.waiting.push_front(loser);
                    }
                    return Some((peer, Ok(stream)));
                }
                Some((peer, Err(error))) => failed = Some((peer, Err(error))),
                None if Instant::now() >= deadline => {
                    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the connect"));
                    return running.pop().map(|(peer, _)| (peer, late())).or(failed);
                }
                None => {}
            }
        }
    }
}

/// The first of them to end, which is taken out. Waits for ever when there is none.
async fn first_of<S>(running: &mut Vec<Attempt<S>>) -> Outcome<S> {
    poll_fn(|cx| {
        let mut ended = None;
        for (index, (peer, attempt)) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                ended = Some((index, (*peer, result)));
                break;
            }
        }
        let Some((index, outcome)) = ended else { return Poll::Pending };
        drop(running.remove(index));
        Poll::Ready(outcome)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::time::sleep;

    use super::*;

    const PATIENT: Duration = Duration::from_secs(20);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 514))
    }

    /// What becomes of each attempt, by the last octet of its address: `Ok` connects, `Err` is refused, after so many
    /// milliseconds; and when which began.
    #[derive(Clone)]
    struct Net {
        fates: Rc<Vec<Result<u64, u64>>>,
        began: Rc<RefCell<Vec<(u8, Instant)>>>,
    }

    impl Net {
        fn new(fates: &[Result<u64, u64>]) -> (Self, Race) {
            let addresses = (0..fates.len()).map(|n| address(u8::try_from(n).unwrap())).collect();
            (Self { fates: Rc::new(fates.to_vec()), began: Rc::default() }, Race::new(addresses))
        }

        async fn connect(self, peer: SocketAddr) -> io::Result<u8> {
            let std::net::IpAddr::V4(ip) = peer.ip() else { panic!("{peer}") };
            let n = ip.octets()[3];
            self.began.borrow_mut().push((n, Instant::now()));
            let fate = self.fates[usize::from(n)];
            let (Ok(after) | Err(after)) = fate;
            sleep(Duration::from_millis(after)).await;
            fate.map(|_| n).map_err(|_| io::ErrorKind::ConnectionRefused.into())
        }

        async fn winner(&self, race: &mut Race, limit: Duration) -> Option<Result<u8, io::ErrorKind>> {
            let (peer, result) = race.winner(limit, |peer| self.clone().connect(peer)).await?;
            let result = result.map_err(|error| error.kind());
            if let Ok(n) = result {
                assert_eq!(peer, address(n));
            }
            Some(result)
        }

        fn began(&self) -> Vec<u8> {
            self.began.borrow().iter().map(|(n, _)| *n).collect()
        }
    }

    const NEVER: u64 = 1_000_000;

    #[tokio::test]
    async fn the_first_is_alone_when_it_answers_soon() {
        let (net, mut race) = Net::new(&[Ok(5), Ok(0)]);
        assert_eq!(net.winner(&mut race, PATIENT).await, Some(Ok(0)));
        assert_eq!(net.began(), [0]);
    }

    #[tokio::test]
    async fn the_next_begins_at_once_after_a_failure_and_soon_beside_silence() {
        let (net, mut race) = Net::new(&[Err(0), Ok(NEVER), Ok(0)]);
        assert_eq!(net.winner(&mut race, PATIENT).await, Some(Ok(2)));
        let began = net.began.borrow();
        let gap = |n: usize| began[n].1 - began[n - 1].1;
        assert!(gap(1) < ATTEMPT_DELAY, "{:?}", gap(1));
        assert!(gap(2) >= ATTEMPT_DELAY, "{:?}", gap(2));
    }

    #[tokio::test]
    async fn one_that_is_slow_may_still_win() {
        let (net, mut race) = Net::new(&[Ok(300), Ok(NEVER)]);
        assert_eq!(net.winner(&mut race, PATIENT).await, Some(Ok(0)));
        assert_eq!(net.began(), [0, 1]);
    }

    #[tokio::test]
    async fn losers_run_again_and_failures_do_not() {
        let (net, mut race) = Net::new(&[Ok(NEVER), Err(0), Ok(0), Ok(0)]);
        assert_eq!(net.winner(&mut race, PATIENT).await, Some(Ok(2)));
        assert_eq!(net.winner(&mut race, PATIENT).await, Some(Ok(3)));
        assert_eq!(net.winner(&mut race, Duration::from_millis(20)).await, Some(Err(io::ErrorKind::TimedOut)));
        assert_eq!(net.winner(&mut race, PATIENT).await, None);
        assert_eq!(net.began(), [0, 1, 2, 0, 3, 0]);
    }

    #[tokio::test]
    async fn silence_ends_with_the_limit_and_every_address_had_its_turn() {
        let (net, mut race) = Net::new(&[Ok(NEVER); 8]);
        let begun = Instant::now();
        assert_eq!(net.winner(&mut race, Duration::from_millis(200)).await, Some(Err(io::ErrorKind::TimedOut)));
        assert!(begun.elapsed() < PATIENT);
        assert_eq!(net.began(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let (net, mut race) = Net::new(&[Err(0), Err(1)]);
        assert_eq!(net.winner(&mut race, PATIENT).await, Some(Err(io::ErrorKind::ConnectionRefused)));
        assert_eq!(net.winner(&mut race, PATIENT).await, None);
    }
}
