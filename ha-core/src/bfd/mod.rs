//! BFD in asynchronous mode (RFC 5880): one [`Session`] for each peer, without clock, socket or randomness.
//!
//! The shell drives it as it drives [`crate::Engine`]:
//!
//! 1. call [`Session::handle`] or [`Session::handle_timeout`] with the present time and a fresh random
//!    number (for the jitter of RFC 5880 section 6.8.7),
//! 2. call [`Session::poll_action`] until it returns `None`, and carry out each action,
//! 3. ask [`Session::poll_timeout`] when to call `handle_timeout`.
//!
//! Spurious calls do nothing. Before `handle_timeout` and before [`Input::Silence`], hand in what has been
//! received meanwhile: the packets that wait, and the last one by the kernel's stamp, if that moved. Nothing
//! is believed dead because the shell was late.
//!
//! Packets that reach a session belong to it: the shell has found it by Your Discriminator, or by interface
//! and source address where that is 0, and has checked the addresses and the TTL. Everything else that
//! RFC 5880 section 6.8.6 demands is checked here.
//!
//! There is no echo function and no demand mode of ours; a peer's demand mode is obeyed.

mod auth;
mod config;
mod event;
mod session;
mod status;

pub use self::{
    auth::Authenticator,
    config::{Auth, Key, SessionConfig},
    event::{Action, Cause, Change, Input},
    session::Session,
    status::SessionStatus,
};
