//! A frame's octets to its [`super::Fields`].
