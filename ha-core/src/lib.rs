//! The decisions of `had`: no clock, no socket, no thread.
//!
//! The shell drives an [`Engine`] by this contract:
//!
//! 1. call [`Engine::handle`] or [`Engine::handle_timeout`] with the present time,
//! 2. call [`Engine::poll_action`] until it returns `None`; carry out each action before polling the
//!    next, and hand the outcome of those that ask for one back through `handle` at once,
//! 3. ask [`Engine::poll_timeout`] when to call `handle_timeout`.
//!
//! Spurious calls do nothing. Before `handle_timeout`, hand in what has been received meanwhile
//! ([`Input::Heard`], [`Input::Advert`]): nothing is believed silent because the shell was late.

#![cfg_attr(not(any(test, feature = "sim")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod event;
pub mod status;

pub use config::{EngineConfig, GroupConfig, InstanceConfig, Version};
pub use event::{Action, Advert, Input, InstanceId, InterfaceCondition};
pub use status::{Cause, InstanceStatus, State, Transition};
