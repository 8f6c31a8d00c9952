//! What two ends of TLS have agreed on.

use rustls::{ClientConnection, ProtocolVersion};

use super::presented::Presented;

/// An established session, in words.
#[derive(Debug, Clone)]
pub struct Session {
    /// `TLS 1.3`
    pub version: String,
    /// `TLS13_AES_256_GCM_SHA384`
    pub cipher: String,
    /// What the peer presented, its own certificate first.
    pub chain: Vec<Presented>,
}

impl Session {
    /// What was agreed on, after the handshake.
    pub fn of(connection: &ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        };
        let cipher =
            connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        let chain = connection.peer_certificates().unwrap_or_default();
        Self { version, cipher, chain: chain.iter().filter_map(Presented::of).collect() }
    }
}
