//! What somebody should know of an interface that is named.

use netlink_packet_route::link::InfoPortKind;

use super::{Link, Table};

impl Link {
    /// What is wrong with naming it, a sentence each: it belongs to another interface, or its bond does not watch
    /// its slaves.
    #[must_use]
    pub fn advice(&self, table: &Table) -> Vec<String> {
        let mut advice = Vec::new();
        if self.gives_frames_away() {
            let master = self.master.and_then(|master| table.by_index(master));
            let master = master.map_or("another interface", |link| &link.name);
            let is = match self.port_of {
                Some(InfoPortKind::Bond) => "slave",
                _ => "port",
            };
            advice.push(format!(
                "{} is a {is} of {master}, which takes its packets: name {master} instead",
                self.name
            ));
        }
        if let Some(bond) = &self.bond
            && !bond.watches
        {
            let name = &table.lowest(self).name;
            advice.push(format!(
                "the bond {name} does not watch its slaves, and goes on sending by one that has failed: set its miimon (as \
                 by `ip link set {name} type bond miimon 100`)"
            ));
        }
        advice
    }
}
