//! The verdicts of `had_ingress` and `had_ingress_tc`: name, packet, verdict, packet out, event, counter.

mod adverts;
mod adverts_v6;
mod arp;
mod ndp;
mod packets;
mod packets_v6;
mod rank;

use crate::{
    at_tc,
    fixture::{Fixture, Gate, Row},
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
    let mut fixture = Fixture::new();
    fixture.check(&rows, |dataplane, frame| {
        dataplane.run_ingress(frame).unwrap()
    });
    rows.retain(|row| at_tc::takes(&row.frame));
    fixture.check(&rows, |dataplane, frame| {
        at_tc::as_of_xdp(dataplane.run_ingress_tc(frame).unwrap())
    });
}
