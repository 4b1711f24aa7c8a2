//! The MAC addresses beside its own that an interface takes frames for.

use std::{collections::BTreeSet, io};

use socket2::Socket;

use crate::sys;

/// What was asked of the interface for a socket; it ends with that.
pub(super) struct Stations {
    ifindex: u32,
    heard: BTreeSet<[u8; 6]>,
}

impl Stations {
    pub(super) const fn new(ifindex: u32) -> Self {
        Self {
            ifindex,
            heard: BTreeSet::new(),
        }
    }

    /// See [`super::Port::hear_stations`].
    pub(super) fn hear(&mut self, socket: &Socket, wanted: &BTreeSet<[u8; 6]>) -> io::Result<()> {
        let Self { ifindex, heard } = self;
        // One that cannot be left is the interface's no more.
        for station in heard.extract_if(.., |station| !wanted.contains(station)) {
            let _ = sys::packet::leave(socket, *ifindex, station);
        }
        let mut result = Ok(());
        for station in wanted {
            if heard.contains(station) {
                continue;
            }
            match sys::packet::join(socket, *ifindex, *station) {
                Ok(()) => {
                    heard.insert(*station);
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Whether frames to a station are taken.
    pub(super) fn contains(&self, station: &[u8; 6]) -> bool {
        self.heard.contains(station)
    }
}
