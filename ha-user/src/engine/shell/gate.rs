//! Opening and closing an instance's gate, and what the log says of it.

use ha_common::{
    MonoNs, Nanos,
    gate::{Epoch, Lease},
    lease::Standing,
};
use ha_core::InstanceId;

use super::Shell;
use crate::{engine::outbox::Level, events::Kind, sys::clock};

impl Shell {
    /// What this node is for an instance that relies on leases: as Active its gate opens.
    pub(super) fn stand(&mut self, id: InstanceId, standing: Standing) {
        let Some(index) = self.index(id) else {
            return;
        };
        // Nobody else acts, but the gate is closed: its roles are to be demoted.
        let holds =
            standing == Standing::Candidate && self.seats[index].standing == Standing::Active;
        let ends = holds.then(|| self.gate_ends(id)).flatten();
        self.seats[index].standing = standing;
        let Some(dataplane) = &self.dataplane else {
            return;
        };
        let length = dataplane.lease_length(id);
        dataplane.set_candidate_until(id, clock::now().after(length));
        dataplane.set_standing(id, standing);
        match standing {
            Standing::Active => {
                let lease = dataplane.first_lease(id);
                if dataplane.gate_open(id, clock::now()) {
                    self.note_open(index, lease);
                } else {
                    // What closed it is about to be taken in: a report of the kernel, or the lease's end.
                    let name = &self.seats[index].name;
                    let text = format!("{name}: its leases were granted, but its gate is closed");
                    self.out.log(Level::Warn, text);
                }
            }
            Standing::Candidate | Standing::Lapsed => {
                if holds {
                    self.note_closed(index, ends);
                }
                let sentence = match standing {
                    Standing::Candidate if holds => {
                        "this node goes on asking its peers for leases until its roles are demoted"
                    }
                    Standing::Lapsed => "this node asks its peers whether it may go on",
                    _ => "this node asks its peers for leases",
                };
                let sentence = sentence.to_owned();
                let name = &self.seats[index].name;
                self.out
                    .event(clock::now(), name, Kind::Candidate, sentence);
            }
            Standing::Bystander => {}
        }
    }

    pub(super) fn set_epoch(&mut self, id: InstanceId, epoch: Epoch) {
        let ends = self.gate_ends(id);
        if let Some(dataplane) = &self.dataplane {
            // One that was raised behind the engine's back may be superseded before the engine comes to it.
            debug_assert_eq!(dataplane.epoch(id).raised(), epoch);
            dataplane.set_epoch(id, epoch);
        }
        if let Some(index) = self.index(id) {
            self.note_closed(index, ends);
        }
    }

    /// Its gate is closed; when it would have closed by itself, if it was open.
    fn note_closed(&mut self, index: usize, ends: Option<MonoNs>) {
        let now = clock::now();
        let seat = &mut self.seats[index];
        seat.announced = false;
        // A gate that ran out while this thread was held up closed at its deadline, not now.
        seat.gate = None;
        if let Some(ends) = ends {
            let (at, how) = if ends <= now {
                (ends, "closed by itself: its lease ran out")
            } else {
                (now, "was closed")
            };
            let gate = match &self.dataplane {
                Some(_) => format!("the gate {how}; "),
                None => String::new(),
            };
            let sentence = format!(
                "{gate}this node no longer speaks for {}",
                seat.vips_in_words()
            );
            self.out.event(at, &seat.name, Kind::GateClosed, sentence);
        }
    }

    /// When an open gate closes by itself. Leases that peers grant were renewed by the kernel since it opened.
    fn gate_ends(&self, id: InstanceId) -> Option<MonoNs> {
        let seat = &self.seats[self.index(id)?];
        let opened = seat.gate?;
        let renewed = self
            .dataplane
            .as_ref()
            .filter(|_| seat.config.heartbeat.is_some())
            .map(|dataplane| dataplane.first_lease(id))
            .filter(|lease| lease.epoch() == opened.epoch());
        Some(renewed.unwrap_or(opened).deadline())
    }

    pub(super) fn set_lease(&mut self, id: InstanceId, slot: usize, lease: Lease) {
        if let Some(dataplane) = &self.dataplane {
            dataplane.set_lease(id, slot, lease);
        }
        let Some(index) = self.index(id) else {
            return;
        };
        self.note_open(index, lease);
    }

    fn note_open(&mut self, index: usize, lease: Lease) {
        let seat = &mut self.seats[index];
        if seat.gate.replace(lease).is_none() {
            let gate = match &self.dataplane {
                Some(_) => "the gate opened; ",
                None => "",
            };
            let sentence = format!("{gate}this node speaks for {}", seat.vips_in_words());
            self.out
                .event(clock::now(), &seat.name, Kind::GateOpen, sentence);
        }
    }

    pub(super) fn watch(&mut self, id: InstanceId, down: Option<Nanos>) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        if let Err(error) = dataplane.watch(id, down.map_or(0, |down| down.0)) {
            self.out.log(
                Level::Error,
                format!("the kernel's silence timer could not be set; this node relies on its backstop: {error}"),
            );
        }
    }
}
