//! The decisions of `had`: no clock, no socket, no thread.
//!
//! The shell drives an [`Engine`] by this contract:
//!
//! 1. call [`Engine::handle`] or [`Engine::handle_timeout`] with the present time,
//! 2. call [`Engine::poll_action`] until it returns `None`; carry out each action before polling the
//!    next, and hand the outcome of those that ask for one back through `handle` at once; but adverts that
//!    follow each other ([`Engine::poll_advert`]) may all be sent first, and their outcomes handed in then,
//!    in the same order,
//! 3. ask [`Engine::poll_timeout`] when to call `handle_timeout`.
//!
//! [`Action::AddVips`] of many addresses may take several turns; meanwhile the contract goes on as ever, and
//! its outcome is handed in when all are in place.
//!
//! Spurious calls do nothing. Before `handle_timeout`, before [`Input::Silence`], and before the outcomes
//! of [`Action::AddVips`] and [`Action::SendAdvert`] of an instance that is Promoting, hand in what has
//! been received meanwhile: first the events that wait ([`Input::Advert`]), then, for each instance
//! whose stamp moved since, [`Input::Heard`] (or an `Advert` made from the stamp and the word beside
//! it): nothing is believed silent because the shell was late, and no gate is
//! opened over an advert that waits to be read. (What arrives after that supersedes the epoch, which a
//! promotion raises first, in the kernel.) After [`Input::Reconfigure`], report
//! [`Input::Interface`] for every instance.
//!
//! Instances that rely on leases: call [`Engine::read_leases`] before any input for each that
//! [`Engine::unread`] names, before `handle_timeout` for each that [`Engine::due`] names, before
//! [`Input::EchoSent`] for each that [`Engine::users`] names, and for the one
//! concerned before the outcomes named above, before [`Input::Acted`], and before what the kernel reports of
//! leases. Hand in [`Input::PathHeard`] for each path before the call of `handle_timeout` in which an echo is
//! due.

#![cfg_attr(not(any(test, feature = "sim")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod announcer;
pub mod bfd;
pub mod check;
pub mod config;
pub mod data;
mod engine;
pub mod event;
mod explain;
mod instance;
mod outbox;
mod path;
pub mod plan;
pub mod roles;
#[cfg(feature = "sim")]
pub mod sim;
pub mod status;
mod timer;
pub mod tracking;
pub mod vrrp;

pub use config::{
    Alone, AnnounceConfig, ChannelConfig, EngineConfig, GroupConfig, InstanceConfig, LeaseConfig,
    LeasePeer, LinkDelays, PathConfig, PathId, Version,
};
pub use engine::Engine;
pub use event::{
    Action, Advert, ChannelState, Input, InstanceId, InterfaceCondition, LeaseView, LeaseViews,
    Target,
};
pub use roles::{Manner, Mode, Prospect, RolesConfig};
pub use status::{Cause, InstanceStatus, State, Transition};
pub use timer::Timer;
