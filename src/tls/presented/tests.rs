use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;

fn certificate(names: &[&str], common_name: &str) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

#[test]
fn a_certificate_is_told_by_names_issuer_and_end() {
    let presented = Presented::of(&certificate(&["a.example", "*.b.example", "192.0.2.1", "::1"], "who")).unwrap();
    assert_eq!(
        presented.to_string(),
        "for a.example, *.b.example, 192.0.2.1, ::1 (issued by who, valid until 2021-02-03T00:00:00Z)"
    );
    assert!(presented.is_self_issued);
    assert_eq!(presented.not_after, 1_612_310_400);
}

#[test]
fn many_names_are_counted_and_one_without_any_is_told_by_its_subject() {
    let names: Vec<String> = (0..30).map(|n| format!("host{n}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = Presented::of(&certificate(&names, "who")).unwrap();
    assert_eq!(many.names(), "host0.example, host1.example, host2.example, host3.example and 26 more");
    assert_eq!(Presented::of(&certificate(&[], "only a subject")).unwrap().names(), "only a subject");
}

#[test]
fn what_a_stranger_wrote_stays_on_its_line_and_short() {
    let presented = Presented::of(&certificate(&[], "a\nb\u{1b}[2Jc\u{202e}d")).unwrap();
    assert_eq!(presented.issuer, "a\u{fffd}b\u{fffd}[2Jc\u{fffd}d");
    assert_eq!(clean(&"x".repeat(10_000)).chars().count(), NAME_CHARS_MAX + 1);
}

proptest! {
    #[test]
    fn whatever_is_presented_describing_it_does_not_panic(at in 0_usize..600, octet: u8, end in 0_usize..600) {
        let mut octets = certificate(&["a.example", "192.0.2.1"], "who").to_vec();
        if let Some(place) = octets.get_mut(at) {
            *place = octet;
        }
        octets.truncate(end.max(1));
        // Not through `of`, which would hide it.
        if let Some(presented) = Presented::read(&octets) {
            prop_assert!(!presented.to_string().contains('\n'));
        }
    }
}
