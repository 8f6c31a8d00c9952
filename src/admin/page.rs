//! `/`: the relay's state as a page, self-contained. It asks `/status` and `/metrics` by itself; nothing is put into it here.

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

/// The page.
pub(super) const HTML: &str = include_str!("page.html");

/// Its own script and its own style, by their SHA-256, and questions to this server: nothing else runs, is loaded or asked,
/// whatever a peer's program is called. A test says what the hashes are to be when the page was changed.
const POLICY: &str = "default-src 'none'; \
     script-src 'sha256-XASBI8AO1ErOA2eoGLX/cr5fTqfxEsYRUZJnfPo29r8='; \
     style-src 'sha256-tfI4TMovGip4HUGUXzVE9RITB+bOURt/Kd/ESNOwyKM='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Gives an answer the headers that belong to the page.
pub(super) fn dressed<B>(mut response: Response<B>) -> Response<B> {
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Of the version that runs, after an upgrade too.
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use rustls::SupportedCipherSuite;
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

    use super::*;

    /// As RFC 4648 has it, of a length that three divides not: a hash.
    fn base64(octets: &[u8]) -> String {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |chunk: &[u8]| {
            let all = chunk.iter().fold(0_u32, |all, octet| (all << 8) | u32::from(*octet)) << (8 * (3 - chunk.len()));
            let char = |nth: usize| char::from(alphabet[(all >> (18 - 6 * nth)) as usize & 63]);
            (0..4).map(|nth| if nth <= chunk.len() { char(nth) } else { '=' }).collect::<String>()
        };
        octets.chunks(3).map(group).collect()
    }

    fn hash_of(tag: &str) -> String {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { panic!("a suite with SHA-256") };
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!((HTML.matches(&open).count(), HTML.matches(&close).count()), (1, 1));
        let inside = HTML.split(&open).nth(1).unwrap().split(&close).next().unwrap();
        base64(suite.common.hash_provider.hash(inside.as_bytes()).as_ref())
    }

    #[test]
    fn the_policy_allows_this_pages_script_and_style_and_nothing_else() {
        assert_eq!(base64(&[0x14, 0xfb, 0x9c, 0x03, 0xd9, 0x7e, 0xaa, 0xbb]), "FPucA9l+qrs=");
        for (directive, tag) in [("script-src", "script"), ("style-src", "style")] {
            let expected = format!("{directive} 'sha256-{}';", hash_of(tag));
            assert!(POLICY.contains(&expected), "the policy is to say {expected}");
        }
        assert!(POLICY.starts_with("default-src 'none';") && !POLICY.contains("unsafe") && !POLICY.contains("://"));
    }

    #[test]
    fn the_page_is_small_loads_nothing_from_elsewhere_and_makes_no_markup_of_data() {
        assert!(HTML.len() < 40 * 1024, "{} octets", HTML.len());
        // The one URL is the name of SVG's namespace.
        assert_eq!(HTML.matches("://").count(), 1);
        for word in
            ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", " style=", "onclick"]
        {
            assert!(!HTML.contains(word), "the page says {word}");
        }
    }
}
