//! `/`: the relay's state as a page, self-contained. It asks `/status` and `/metrics` by itself; nothing is put into it here.

use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

/// The page.
pub(super) const HTML: &str = include_str!("page.html");

/// Its own script and its own style, by their SHA-256, and questions to this server: nothing else runs, is loaded or asked,
/// whatever a peer's program is called. A test says what the hashes are to be when the page was changed.
const POLICY: &str = "default-src 'none'; \
     script-src 'sha256-qIo9E7S/Xi9m8yCu1c7zaE+nu94fBHvWdkiqiN7s48o='; \
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
    use crate::base64::encode;

    fn hash_of(tag: &str) -> String {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { panic!("a suite with SHA-256") };
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!((HTML.matches(&open).count(), HTML.matches(&close).count()), (1, 1));
        let inside = HTML.split(&open).nth(1).unwrap().split(&close).next().unwrap();
        encode(suite.common.hash_provider.hash(inside.as_bytes()).as_ref())
    }

    #[test]
    fn the_policy_allows_this_pages_script_and_style_and_nothing_else() {
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
