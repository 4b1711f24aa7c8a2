//! BFD sessions in the dataplane: settings, what was received, events. They are each daemon's own.

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};
use ha_common::{
    MonoNs,
    abi::bfd::{Event, MAX_SESSIONS, PeerKey, Received, Session, bytes, watch},
    wire::bfd::{HEADER_LEN, Payload},
};

use super::{Dataplane, DataplaneError, loader, maps};

/// The settings of the sessions, and their events.
pub(super) struct Sessions {
    sessions: Array<MapData, Session>,
    discriminators: HashMap<MapData, u32, u32>,
    peers: HashMap<MapData, PeerKey, u32>,
    pub(super) events: RingBuf<MapData>,
}

impl Sessions {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            sessions: loader::take(ebpf, "BFD_SESSIONS")?,
            discriminators: loader::take(ebpf, "BFD_DISCRIMINATORS")?,
            peers: loader::take(ebpf, "BFD_PEERS")?,
            events: loader::take(ebpf, "BFD_EVENTS")?,
        })
    }

    /// The configuration first, and then what leads to it.
    fn set(&mut self, slot: u32, session: &Session) -> Result<(), DataplaneError> {
        self.write(slot, session)?;
        let map = &mut self.discriminators;
        maps::insert(map, "BFD_DISCRIMINATORS", session.discriminator, slot)?;
        maps::insert(&mut self.peers, "BFD_PEERS", session.key(), slot)
    }

    fn clear(&mut self, slot: u32) -> Result<(), DataplaneError> {
        let session = self
            .sessions
            .get(&slot, 0)
            .map_err(|error| DataplaneError::kernel("reading BFD_SESSIONS", error))?;
        if session.ifindex == 0 {
            return Ok(());
        }
        maps::remove(&mut self.peers, "BFD_PEERS", &session.key())?;
        let map = &mut self.discriminators;
        maps::remove(map, "BFD_DISCRIMINATORS", &session.discriminator)?;
        self.write(slot, &Session::default())
    }

    fn write(&mut self, slot: u32, session: &Session) -> Result<(), DataplaneError> {
        self.sessions
            .set(slot, session, 0)
            .map_err(|error| DataplaneError::kernel("writing BFD_SESSIONS", error))
    }
}

/// A packet that the dataplane took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its bytes.
    pub payload: Payload,
    /// When it arrived.
    pub received_at: MonoNs,
}

impl Taken {
    /// From the words of a map or an event.
    #[must_use]
    pub fn new(words: [u64; 3], received_at: MonoNs) -> Self {
        let packet: [u8; HEADER_LEN] = bytes(words);
        Self {
            payload: Payload::from(packet),
            received_at,
        }
    }
}

impl Dataplane {
    /// Writes a BFD session's addresses and discriminator, replacing earlier ones; what was heard before is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// The slot is none, or the kernel refuses a write.
    pub fn set_session(&mut self, slot: u32, session: &Session) -> Result<(), DataplaneError> {
        if slot >= MAX_SESSIONS {
            return Err(DataplaneError::NoSlot {
                slot,
                slots: MAX_SESSIONS,
            });
        }
        self.clear_session(slot)?;
        self.loaded.sessions.set(slot, session)
    }

    /// Forgets a BFD session: its packets are then none of ours.
    ///
    /// # Errors
    ///
    /// The kernel refuses a write.
    pub fn clear_session(&mut self, slot: u32) -> Result<(), DataplaneError> {
        self.loaded.settings.set_watch(watch(slot), 0)?;
        self.loaded.sessions.clear(slot)?;
        self.loaded.words.forget_session(slot);
        Ok(())
    }

    /// Lets the kernel take repetitions of a session's last packet without a word, and report silence of
    /// `down_ns`; 0 = neither. As [`Self::watch`] does for an instance.
    ///
    /// # Errors
    ///
    /// The kernel refuses the write.
    pub fn watch_session(&mut self, slot: u32, down_ns: u64) -> Result<(), DataplaneError> {
        self.set_watch(watch(slot), down_ns)
    }

    /// What XDP received for a session.
    #[must_use]
    pub fn session_received(&self, slot: u32) -> Received {
        self.loaded.words.session_received(slot)
    }

    /// The descriptor of the sessions' ring buffer, for epoll.
    #[must_use]
    pub fn session_events_fd(&self) -> BorrowedFd<'_> {
        self.loaded.sessions.events.as_fd()
    }

    /// The next event of a session, if any.
    pub fn next_session_event(&mut self) -> Option<Event> {
        Event::from_bytes(&self.loaded.sessions.events.next()?)
    }
}
