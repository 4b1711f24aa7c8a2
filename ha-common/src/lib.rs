//! What the kernel side and the user side of `had` share.
//!
//! Everything here compiles for the BPF target: no allocation, no panics on bytes from the network,
//! and loops with constant bounds, which the verifier can follow.

#![no_std]
#![deny(unsafe_code)]

pub mod abi;
mod address;
pub mod gate;
pub mod lease;
#[cfg(feature = "user")]
mod pod;
pub mod siphash;
pub mod units;
pub mod wire;

pub use address::Address;
pub use units::{Centis, MonoNs, Nanos, Priority, Vrid};
