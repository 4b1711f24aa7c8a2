//! Taking in what netlink tells of the interfaces.

use std::io;

use ha_common::{MonoNs, Nanos};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::{Driver, LINKS};
use crate::sys::clock;

/// How long the kernel is left alone once it tells of a bond's slave: it does so in the middle of a fail-over, before
/// the other slave is the active one, and what it runs on this CPU until then is not to wait for a real-time thread.
/// It needs some hundred microseconds, most of them a card's for its address filter.
const SETTLE: Nanos = Nanos::from_millis(3);

impl Driver {
    /// Takes in what netlink tells; after [`SETTLE`], where that begins with a slave that its bond watches.
    pub(super) fn hear_of_links(&mut self) -> io::Result<()> {
        if self.settled_at.is_none() && self.shell.links.begins_with_slave() {
            self.settled_at = Some(clock::now().after(SETTLE));
            // Silent, so that what follows wakes nobody.
            return self.listen_to_links(EventFlags::empty());
        }
        self.follow_links();
        Ok(())
    }

    /// When netlink is to be read again, if it is left alone.
    pub(super) const fn settled_at(&self) -> Option<MonoNs> {
        self.settled_at
    }

    /// Reads it once that is due.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.settled_at.is_some_and(|due| due <= clock::now()) {
            self.settled_at = None;
            self.listen_to_links(EventFlags::IN)?;
            self.follow_links();
        }
        Ok(())
    }

    fn listen_to_links(&self, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(LINKS);
        epoll::modify(&self.epoll, &self.shell.links, data, flags)?;
        Ok(())
    }

    pub(super) fn follow_links(&mut self) {
        let mut inputs = Vec::new();
        if self.shell.update_links() {
            self.shell.follow_links(&mut inputs);
        }
        for input in inputs {
            self.handle(input);
        }
    }
}
