//! Wire formats: one parser for XDP and for user space.

pub mod vrrp;
