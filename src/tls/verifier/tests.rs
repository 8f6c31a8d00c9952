use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;

use super::*;

/// A root, an authority below it, and a certificate of that one's.
struct Chain {
    root: CertificateDer<'static>,
    middle: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
}

fn params(name: &str, names: &[&str], year: i32) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    params
}

fn authority(name: &str, year: i32) -> CertificateParams {
    let mut params = params(name, &[], year);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// The authority in the middle ends in `year`.
fn chain(year: i32) -> Chain {
    crate::tls::install_provider();
    let [root_key, middle_key, leaf_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root = authority("the root", 2090).self_signed(&root_key).unwrap().der().clone();
    let issuer = Issuer::new(authority("the root", 2090), root_key);
    let middle = authority("the middle", year).signed_by(&middle_key, &issuer).unwrap().der().clone();
    let issuer = Issuer::new(authority("the middle", year), middle_key);
    let leaf = params("leaf", &["a.example"], 2080).signed_by(&leaf_key, &issuer).unwrap().der().clone();
    Chain { root, middle, leaf }
}

fn servers(root: &CertificateDer<'static>) -> Servers {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let standard = WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap();
    Servers { standard, anchors: "those in a test".to_owned(), expiry: Arc::default() }
}

/// 2026-01-01T00:00:00Z.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600))
}

/// The verdict, and the words that were left for it.
fn verdict(
    of: &Servers,
    chain: &Chain,
    sent: &[CertificateDer<'_>],
    name: &'static str,
) -> (Result<(), Error>, Option<String>) {
    let name = ServerName::try_from(name).unwrap();
    let verdict = of.verify_server_cert(&chain.leaf, sent, &name, &[], now()).map(drop);
    let words = match &verdict {
        Err(Error::InvalidCertificate(error)) => refused(error),
        _ => None,
    };
    (verdict, words)
}

#[test]
fn the_verdict_is_the_standard_one_and_a_good_certificate_leaves_no_words() {
    let chain = chain(2085);
    let middle = [chain.middle.clone()];
    let servers = servers(&chain.root);
    assert_eq!(verdict(&servers, &chain, &middle, "a.example"), (Ok(()), None));
    assert_eq!(servers.expiry.value(), end_of(&chain.leaf));
    let name = ServerName::try_from("b.example").unwrap();
    let standard = servers.standard.verify_server_cert(&chain.leaf, &middle, &name, &[], now()).map(drop);
    assert_eq!(verdict(&servers, &chain, &middle, "b.example").0, standard);
}

#[test]
fn an_authority_that_has_expired_is_told_from_the_certificate_itself() {
    let chain = chain(2025);
    let (_, words) = verdict(&servers(&chain.root), &chain, std::slice::from_ref(&chain.middle), "a.example");
    assert_eq!(
        words.as_deref(),
        Some(
            "the certificate of the authority the middle in the peer's chain expired on 2025-01-01T00:00:00Z (now \
             2026-01-01T00:00:00Z): the peer must renew it; check this machine's clock too"
        )
    );
}

#[test]
fn the_authority_that_is_missing_is_named() {
    let (chain, other) = (chain(2085), chain(2085));
    // The peer forgot its middle: that is whose certificate would be needed.
    let (_, words) = verdict(&servers(&chain.root), &chain, &[], "a.example");
    assert!(
        words.as_deref().is_some_and(|words| words.contains("(issuer: the middle); expected one of those in a test"))
    );
    // The same names, and other keys.
    let (_, words) = verdict(&servers(&other.root), &chain, std::slice::from_ref(&chain.middle), "a.example");
    assert!(words.as_deref().is_some_and(|words| words.contains("(issuer: the root); expected one of")), "{words:?}");
    // Its root came along.
    let (_, words) = verdict(&servers(&other.root), &chain, &[chain.middle.clone(), chain.root.clone()], "a.example");
    assert!(words.as_deref().is_some_and(|words| words.contains("(issuer: the root); expected one of")), "{words:?}");
    let own = params("alone", &["a.example"], 2080).self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    let (_, words) = verdict(&servers(&other.root), &Chain { leaf: own, ..chain }, &[], "a.example");
    assert!(words.as_deref().is_some_and(|words| words.contains("(issuer: itself); expected one of")), "{words:?}");
}

#[test]
fn words_are_for_the_error_that_they_were_left_for() {
    let chain = chain(2085);
    let name = ServerName::try_from("b.example").unwrap();
    let verdict =
        servers(&chain.root).verify_server_cert(&chain.leaf, std::slice::from_ref(&chain.middle), &name, &[], now());
    assert!(verdict.is_err());
    assert_eq!(refused(&CertificateError::UnknownIssuer), None);
    let Err(Error::InvalidCertificate(error)) = verdict else { panic!("{verdict:?}") };
    assert_eq!(refused(&error), None, "they are taken once");
}
