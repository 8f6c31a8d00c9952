//! Framing of a stream: octet counting and non-transparent framing, told apart per frame (RFC 6587 section 3.4).
