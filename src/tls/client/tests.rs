use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

/// Without a certificate of ours, and with one.
fn clients() -> (TempDir, Client, Client) {
    super::super::install_provider();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("own.pem"), folder.path().join("own.key"));
    let pair = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
    std::fs::write(&cert, own.pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let tls = |client| OutputTls { ca: None, server_name: Some("intake.example".to_owned()), client };
    let new = |tls: &OutputTls| Client::new("out", tls, &OutputExpiries::default()).unwrap();
    let (without, with) = (new(&tls(None)), new(&tls(Some((cert, key)))));
    (folder, without, with)
}

fn explained(client: &Client, error: Error) -> String {
    client.explain(&io::Error::new(io::ErrorKind::InvalidData, error))
}

#[test]
fn an_alert_is_told_by_what_it_means_for_us() {
    let (_folder, without, with) = clients();
    let rows = [
        (&without, AlertDescription::CertificateRequired, "and we have none: set tls.client_cert and tls.client_key"),
        (&without, AlertDescription::HandshakeFailure, "no cipher that both know"),
        (&without, AlertDescription::ProtocolVersion, "neither TLS 1.2 nor TLS 1.3"),
        (&without, AlertDescription::UnrecognisedName, "no certificate for that name: set tls.server_name"),
        (&without, AlertDescription::InternalError, "with the alert InternalError"),
        (&with, AlertDescription::CertificateExpired, "own.pem, for relay.example (issued by "),
        (&with, AlertDescription::UnknownCA, "does not trust the authority of our client certificate ("),
    ];
    for (client, alert, part) in rows {
        let words = explained(client, Error::AlertReceived(alert));
        assert!(words.contains(part), "{words:?} of {alert:?}");
    }
}

#[test]
fn a_refusal_is_put_down_to_our_certificate_only_where_the_peer_asked_for_one() {
    let (_folder, without, with) = clients();
    let refused = || Error::AlertReceived(AlertDescription::HandshakeFailure);
    assert!(explained(&with, refused()).contains("no cipher that both know"));
    for client in [&without, &with] {
        let resolver = Asked { key: None, asked: Arc::clone(&client.asked) };
        resolver.resolve(&[], &[]);
    }
    assert!(
        explained(&without, refused()).starts_with("the peer demands a client certificate (one), and we have none")
    );
    assert!(explained(&with, refused()).starts_with("the peer refused our client certificate ("));
}

#[test]
fn a_peer_that_hangs_up_in_the_handshake_may_not_speak_tls() {
    let (_folder, without, _) = clients();
    let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
    assert!(without.explain(&eof).contains("is this a port that speaks TLS?"));
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(without.explain(&reset), reset.to_string());
}
