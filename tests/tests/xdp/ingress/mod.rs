//! The verdicts of `had_ingress`: name, packet, verdict, packet out, event, counter.

mod adverts;
mod arp;
mod packets;
mod rank;

use crate::fixture::{Fixture, Gate, Row};

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

fn check(rows: Vec<Row>) {
    Fixture::new().check(&rows, |dataplane, frame| {
        dataplane.run_ingress(frame).unwrap()
    });
}
