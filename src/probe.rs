//! Trying the way out, by hand: what each step to each output's addresses comes to, and one marked message all the way.
//!
//! The steps are the relay's own (`road`, `forward`), taken one address at a time and timed. [`connect`] sends no message.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Builder;

use crate::config::Config;
use crate::relay::{self, StartError};

pub use report::{Certificate, Failure, Finding, Place, Reached};
pub use send::{Outcome, SendError, Sending};

mod advice;
mod local;
mod report;
mod send;
mod steps;

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Certificates cannot be used: a mistake of the configuration.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The runtime, or the resolver's thread.
    #[error("cannot begin: {0}")]
    Runtime(#[from] io::Error),
}

/// Tries all outputs whose name is in `only`, or all where that is `None`, at the same time; each step has the limit that it
/// has in the relay. Opens sockets, and sends no message. In the configuration's order.
///
/// # Errors
/// See [`ProbeError`]; what an output comes to is in its [`Finding`].
pub fn connect(config: &Config, only: Option<&str>) -> Result<Vec<Finding>, ProbeError> {
    connect_with(config, config.spool.as_ref().map(|spool| spool.dir.clone()), only)
}

/// The same, with what a relay has kept of names in the folder `kept`.
fn connect_with(config: &Config, kept: Option<PathBuf>, only: Option<&str>) -> Result<Vec<Finding>, ProbeError> {
    let clients = relay::clients(config)?;
    // What cryptography does once in a process is nothing that a handshake is to be blamed for.
    clients.iter().flatten().take(1).for_each(|client| client.warm_up());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(steps::all_outputs(config, &clients, kept, only));
    // A call of the C library may hang, and nobody waits for it any more.
    runtime.shutdown_background();
    Ok(findings?)
}

/// A future of several.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs all of them at the same time; what came of them, in their order.
async fn all<T>(mut futures: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        let mut has_ended = true;
        for (future, result) in futures.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(ended) => *result = Some(ended),
                Poll::Pending => has_ended = false,
            }
        }
        if has_ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
