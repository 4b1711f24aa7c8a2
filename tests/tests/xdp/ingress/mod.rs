//! The verdicts of `had_ingress` and `had_ingress_tc`: name, packet, verdict, packet out, event, counter.

mod adverts;
mod adverts_v6;
mod arp;
mod ndp;
mod packets;
mod packets_v6;
mod rank;

use crate::{
    fixture::{Fixture, Gate, Row},
    program::Program,
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// Every way in which a gate is closed.
const CLOSED: [Gate; 5] = [
    Gate::Closed,
    Gate::Expired,
    Gate::Raised,
    Gate::HalfOpen,
    Gate::NoLeases,
];

fn check(mut rows: Vec<Row>) {
    let mut fixture = Fixture::shared();
    for program in Program::ALL {
        rows.retain(|row| program.takes(&row.frame));
        fixture.check(&rows, |dataplane, frame| program.run(dataplane, frame));
    }
}
