//! The slow side of a daemon: the conductor, its journal, and the step that its executor is at.

use std::{collections::VecDeque, vec::Vec};

use crate::plan::{Conductor, Order, PlanInput};

/// What dies with the daemon.
#[derive(Debug)]
pub(super) struct Slow {
    pub(super) conductor: Conductor,
    pub(super) inbox: VecDeque<PlanInput>,
    /// The step under way, and when it may be done at the earliest.
    pub(super) step: Option<(Order, u64)>,
    pub(super) observes_at: u64,
    pub(super) speaks_at: u64,
    /// It has something to say.
    pub(super) tells: bool,
}

impl Slow {
    pub(super) const fn new(conductor: Conductor) -> Self {
        Self {
            conductor,
            inbox: VecDeque::new(),
            step: None,
            observes_at: 0,
            speaks_at: 0,
            tells: false,
        }
    }
}

/// A write that a client was told is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) at: u64,
    pub(super) node: usize,
    pub(super) epoch: u64,
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) next: u64,
    pub(super) done: Vec<u64>,
    pub(super) last: Option<Acknowledged>,
}
