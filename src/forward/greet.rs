//! The first words with a far end, and no message: what answers where an output leads.

use std::io;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::config::{Output, Protocol, Target};
use crate::road::Connection;
use crate::tls;

use super::{https, relp};

/// How long the far end's farewell is waited for: a few round trips.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);

/// What the far end said, where the protocol has it say something.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// With RELP: what it says it is; empty where it does not say.
    pub software: Option<String>,
    /// With HTTPS: the status that a HEAD of the base was answered with. Any status is an answer.
    pub status: Option<u16>,
    /// With HTTPS: its clock.
    pub date: Option<SystemTime>,
}

/// Opens what is spoken on a fresh connection, and closes it: RELP's `open` and `close`, a HEAD over HTTPS. Plain syslog
/// has nothing to say; its connection is closed.
///
/// # Errors
/// In words, why no session came of it.
pub async fn greet(
    output: &Output,
    tls: Option<&tls::Client>,
    target: &Target,
    connection: Connection,
) -> Result<Greeting, String> {
    match &output.protocol {
        Protocol::Relp { window } => {
            let opened = relp::open(output, tls, connection, *window).await.map_err(|error| error.to_string())?;
            let software = Some(opened.software.clone());
            opened.close().await;
            Ok(Greeting { software, ..Greeting::default() })
        }
        Protocol::Https(http) => {
            let (status, date) = https::greet(output, http, target, connection).await?;
            Ok(Greeting { status: Some(status), date, ..Greeting::default() })
        }
        _ => {
            let Connection { mut stream, .. } = connection;
            relp::shut(&mut stream).await;
            // With TLS 1.3 a server looks at our certificate after the handshake (RFC 8446 section 4.4.2.4): its alert comes in
            // place of its farewell. One that says nothing has nothing against us.
            match timeout(FAREWELL_WAIT, stream.read(&mut [0; 64])).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(tls.map_or_else(|| error.to_string(), |tls| tls.explain(&error)))
                }
                _ => Ok(Greeting::default()),
            }
        }
    }
}
