//! The conditions of one route.
