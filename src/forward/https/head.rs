//! What a request says of itself and its target; and one that asks for nothing.

use std::time::SystemTime;

use hyper::body::Bytes;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request};

use crate::config::{Http, Output, Target, limits};
use crate::road::Connection;

use super::exchange::{Conversation, Limits};

/// Who asks.
pub(super) const USER: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// What a request's `Host` says: the port only where it is not the scheme's own.
pub(super) fn host_of(target: &Target, is_tls: bool) -> String {
    let default = if is_tls { limits::HTTPS_PORT } else { limits::HTTP_PORT };
    let address = target.address();
    let suffix = format!(":{default}");
    if target.port == default { address.strip_suffix(&suffix).unwrap_or(&address).to_owned() } else { address }
}

/// Asks for nothing (HEAD), which costs the far end nothing: the status of its answer, and what its clock says. Connections
/// are closed after it.
pub(in crate::forward) async fn greet(
    output: &Output,
    http: &Http,
    target: &Target,
    connection: Connection,
) -> Result<(u16, Option<SystemTime>), String> {
    let head = Request::builder()
        .method(Method::HEAD)
        .uri(format!("{}/", target.path))
        .header(HOST, host_of(target, output.tls.is_some()))
        .header(USER_AGENT, USER)
        .body(());
    let head = head.map_err(|error| error.to_string())?;
    let limits = Limits { stall: output.stall_timeout, answer: http.request_timeout };
    let mut talk = Conversation::begin(connection.stream).await.map_err(|error| error.to_string())?;
    let reply = talk.exchange(head, Bytes::new(), 0, limits).await.map_err(|fault| fault.to_string())?;
    talk.close().await;
    Ok((reply.status, reply.date))
}
