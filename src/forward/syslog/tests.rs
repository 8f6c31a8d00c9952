use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::config::{self, Output, Source};
use crate::metrics::OutputExpiries;
use crate::names::Names;
use crate::road::{Connector, Targets};
use crate::tls;

use super::*;

/// A peer with this certificate, which demands one as well, and resets the connection with its alert.
fn refuses_everybody(listener: TcpListener, cert: &Path, key: &Path) -> thread::JoinHandle<()> {
    let cert = CertificateDer::from_pem_file(cert).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let builder = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = builder.with_client_cert_verifier(verifier).with_single_cert(vec![cert], key).unwrap();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut session = ServerConnection::new(Arc::new(config)).unwrap();
        // What it sends of itself on its way out is the alert.
        while session.complete_io(&mut tcp).is_ok() {}
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
    })
}

fn output(to: SocketAddr, ca: &Path) -> Output {
    let text = format!(
        "inputs: {{in: {{listen: 'udp://127.0.0.1:0'}}}}\n\
         outputs: {{out: {{to: 'tls://{to}', tls: {{ca: {}, server_name: localhost}}}}}}\n\
         routes: [{{intake_key: a-key-of-a-test}}]\n",
        ca.display()
    );
    let loaded = config::load(&Source::Text { name: "test".into(), text }, &|_| None).unwrap();
    loaded.config.outputs[0].clone()
}

#[test]
fn a_peers_alert_is_read_though_the_write_behind_it_fails() {
    tls::install_provider();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("own.pem"), folder.path().join("own.key"));
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = output(listener.local_addr().unwrap(), &cert);
    let client = tls::Client::new("out", output.tls.as_ref().unwrap(), &OutputExpiries::default()).unwrap();
    let client = Arc::new(client);
    let peer = refuses_everybody(listener, &cert, &key);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (targets, names) = (Targets::of(&output), Names::start(None).unwrap());
        let connector = Connector::new(&output, Some(Arc::clone(&client)), &targets, &names, None);
        let mut stream = connector.connect(0).await.unwrap().stream;
        peer.join().unwrap();
        let written = stream.write_all(b"1 a").await;
        let written = if written.is_ok() { stream.flush().await } else { written };
        let error = written.unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::InvalidData, "the kernel's, not TLS's: {error}");
        let word = last_word(&mut stream).await.expect("an alert");
        assert!(client.explain(&word).starts_with("the peer demands a client certificate (one signed by "), "{word}");
    });
}
