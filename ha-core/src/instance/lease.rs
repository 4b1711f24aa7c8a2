//! Leases granted by the peers' kernels (docs/architecture.md, "Leases"): competing, holding, going on
//! alone.
//!
//! Every handler is called after the words of the maps were read again ([`crate::Engine::read_leases`]).

use alloc::{format, vec::Vec};
use core::net::IpAddr;

use ha_common::{
    MonoNs, Nanos,
    gate::Lease,
    lease::{self, Ask, Standing},
};

use super::{Claim, Departure, Instance, Speaker, Verdict};
use crate::{
    config::{Alone, LeaseConfig, PathId},
    event::{Action, LeaseView, LeaseViews},
    outbox::Outbox,
    path::Pace,
    status::{Cause, State},
    timer::Timer,
};

/// Announcements of a candidate on every path, at least.
const ANNOUNCEMENTS: u32 = 3;

/// A candidate that is neither granted nor alone for this many leases gives up.
const PATIENCE: u64 = 4;

/// How far a promotion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its promises have to run out first.
    Promised,
    /// Announcing itself.
    Announcing,
    /// Every peer has granted a lease, or is silent.
    Won,
}

/// What was found since a peer asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// Nothing: somebody may ask.
    Unproven,
    /// The kernel, which was awake all the time, has found that nobody asks.
    Proven,
    /// The same, and this node was held up later. It waits for a lease more: once, since a node that is always
    /// held up would wait for ever.
    Doubted,
}

/// What an instance knows of its leases.
#[derive(Debug)]
pub(crate) struct Leases {
    pub(crate) peers: Vec<Peer>,
    alone: Alone,
    pub(crate) phase: Phase,
    /// Promoting: whether it held the instance until it was held up, and asks to go on.
    pub(super) resumes: bool,
    /// When the words of the maps were read last.
    read_at: MonoNs,
    /// Since when it stands as candidate.
    stood_at: MonoNs,
    /// Candidate: when every refusal that there is has come, once enough was announced.
    decide_at: Option<MonoNs>,
    /// The peer that was heard holding the instance last.
    asker: Option<usize>,
    silence: Silence,
    /// Backup that is not to serve alone: whom it waits for before it stands as candidate.
    awaited: Option<Awaited>,
}

/// A peer that is waited for.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    peer: usize,
    since: MonoNs,
    /// It had the time to answer, and that it did not was told.
    told: bool,
}

/// A peer, as one instance sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    ways: Vec<Way>,
    pub(crate) view: LeaseView,
}

/// A path to a peer.
#[derive(Debug)]
struct Way {
    id: PathId,
    interval: Nanos,
    lease: Nanos,
    /// The last echo that left, in this stay.
    sent: Option<MonoNs>,
    /// Announcements that were tried, and those that left.
    tried: u32,
    announced: u32,
    round_trip: Option<Nanos>,
}

impl Peer {
    fn fastest(&self) -> Nanos {
        self.each(|way| way.interval).min().unwrap_or_default()
    }

    /// How long it has to be silent before it counts as silent: so long that a refusal would have been
    /// heard, and short enough that the lease has not ended by then.
    fn patience(&self) -> Nanos {
        self.each(|way| {
            let most = way.lease.0.saturating_sub(way.interval.0 / 2 * 3);
            Nanos(most.max(way.interval.0 / 4 * 5))
        })
        .min()
        .unwrap_or_default()
    }

    fn slowest_lease(&self) -> Nanos {
        self.each(|way| way.lease).max().unwrap_or_default()
    }

    fn fastest_lease(&self) -> Nanos {
        self.each(|way| way.lease).min().unwrap_or_default()
    }

    /// How long after it was heard as holder it may hold the instance. Where paths differ, it may have gone on
    /// alone by an echo on the slowest one which was lost.
    fn holds_for(&self) -> Nanos {
        let longest = self.longest_hold();
        if self.slowest_lease() == self.fastest_lease() {
            longest.min(self.view.promised_until.since(self.view.asked_at))
        } else {
            longest
        }
    }

    /// The same, if nothing is known of when it was heard.
    fn longest_hold(&self) -> Nanos {
        let slowest = self.slowest_lease();
        Nanos(slowest.0 + lease::margin(slowest).0)
    }

    fn each<T>(&self, of: impl Fn(&Way) -> T) -> impl Iterator<Item = T> {
        self.ways.iter().map(of)
    }

    /// What the last echoes give, if every one of them was heard.
    fn alone_until(&self) -> Option<MonoNs> {
        self.ways
            .iter()
            .filter_map(|way| Some(way.sent?.after(way.lease)))
            .max()
    }

    /// Whether nothing came from it for as long as it takes. A peer that holds the instance as well does not
    /// hear this node: if packets of its own are lost now and then, it is not silent.
    fn is_silent(&self, now: MonoNs) -> bool {
        self.silent_from() <= now
    }

    /// When it counts as silent, if nothing comes.
    fn silent_from(&self) -> MonoNs {
        let heard = self.view.heard_at.after(self.patience());
        heard.max(self.view.asked_at.after(self.slowest_lease()))
    }
}

impl Leases {
    pub(crate) fn new(config: &LeaseConfig) -> Self {
        let peers = config.peers.iter().map(|peer| Peer {
            address: peer.address,
            ways: peer
                .paths
                .iter()
                .map(|path| Way {
                    id: path.id,
                    interval: path.interval,
                    lease: path.lease(),
                    sent: None,
                    tried: 0,
                    announced: 0,
                    round_trip: None,
                })
                .collect(),
            view: LeaseView::default(),
        });
        Self {
            peers: peers.collect(),
            alone: config.alone,
            phase: Phase::Promised,
            resumes: false,
            read_at: MonoNs::ZERO,
            stood_at: MonoNs::ZERO,
            decide_at: None,
            asker: None,
            silence: Silence::Unproven,
            awaited: None,
        }
    }

    /// The first peer without which this node does not stand: not to serve alone, it needs them all.
    fn missing(&self, now: MonoNs) -> Option<usize> {
        let is_missing = |peer: &Peer| peer.view.heard_at.after(peer.slowest_lease()) <= now;
        match self.alone {
            Alone::Serve => None,
            Alone::Stop => self.peers.iter().position(is_missing),
        }
    }

    /// The peer that is waited for.
    pub(crate) fn awaited(&self) -> Option<IpAddr> {
        let peer = self.peers.get(self.awaited?.peer)?;
        Some(peer.address)
    }

    /// When the first lease ends.
    pub(crate) fn deadline(&self) -> MonoNs {
        self.peers
            .iter()
            .map(|peer| peer.view.deadline)
            .min()
            .unwrap_or_default()
    }

    /// The peer that was heard holding the instance last.
    pub(crate) fn asker(&self) -> Option<&Peer> {
        self.peers.get(self.asker?)
    }

    /// The peer that was heard holding the instance last, if it has asked within a lease.
    pub(crate) fn asking(&self, now: MonoNs) -> Option<IpAddr> {
        let asker = self.asker()?;
        let asks = asker.view.asked_at.after(asker.slowest_lease()) > now;
        asks.then_some(asker.address)
    }

    /// When the last promise ends.
    pub(crate) fn promised_until(&self) -> MonoNs {
        self.peers
            .iter()
            .map(|peer| peer.view.promised_until)
            .max()
            .unwrap_or_default()
    }

    /// When the peer that asked last cannot hold the instance any more: after its promise, and as long after
    /// the last advert that shows it alive.
    fn outlived(&self, speakers: &[Speaker]) -> MonoNs {
        let promised = self.promised_until();
        let Some(asker) = self.asker() else {
            return promised;
        };
        let advertised = speakers
            .iter()
            .filter(|speaker| speaker.advert.sender == asker.address)
            .map(|speaker| speaker.last)
            .max();
        let alive_at = asker.view.asked_at.max(advertised.unwrap_or_default());
        promised.max(alive_at.after(asker.holds_for()))
    }

    fn slowest_lease(&self) -> Nanos {
        self.peers
            .iter()
            .map(Peer::slowest_lease)
            .max()
            .unwrap_or_default()
    }

    /// The peer to which the kernel promised not to act, although this node does: it gave way, whether its report
    /// came or not.
    fn granted_meanwhile(&self) -> Option<usize> {
        let promised = |peer: &Peer| peer.view.promised_until > MonoNs::ZERO;
        match self.phase {
            Phase::Promised => None,
            Phase::Announcing | Phase::Won => self.peers.iter().position(promised),
        }
    }

    /// Whether a router's gate depends on this node's promise, so that it need not be outlived: it is a peer
    /// that asked about when it advertised last.
    pub(crate) fn bind(&self, speaker: &Speaker) -> bool {
        self.peers.iter().any(|peer| {
            peer.address == speaker.advert.sender
                && peer.view.asked_at != MonoNs::ZERO
                && peer.view.asked_at.after(peer.slowest_lease()) >= speaker.last
        })
    }

    /// Forgets the echoes of the stay before.
    fn begin(&mut self, now: MonoNs) {
        self.stood_at = now;
        self.decide_at = None;
        for way in self.peers.iter_mut().flat_map(|peer| &mut peer.ways) {
            way.sent = None;
            way.tried = 0;
            way.announced = 0;
        }
    }

    /// How long a refusal can be on its way. One that is longer on its way than a lease comes from a peer that
    /// could not hold one either; and the longest round trip may be that of an echo during which a node was held
    /// up, long ago at the pace of hellos.
    fn round_trip(&self) -> Nanos {
        self.peers
            .iter()
            .flat_map(|peer| &peer.ways)
            .map(|way| match way.round_trip {
                Some(longest) => longest
                    .times(2)
                    .max(Nanos(way.interval.0 / 8))
                    .min(way.lease),
                None => way.lease,
            })
            .max()
            .unwrap_or_default()
    }

    /// Whether every peer was told often enough: on every path, unless nothing can be sent on it and there
    /// is another one.
    fn is_announced(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.ways.iter().all(|way| way.tried >= ANNOUNCEMENTS)
                && peer.ways.iter().any(|way| way.announced >= ANNOUNCEMENTS)
        })
    }

    /// Whether the echo before this one of `round` is so old that nothing counts any more that was asked with it.
    fn is_forgotten(&self, path: PathId, round: MonoNs) -> bool {
        let mut ways = self.peers.iter().flat_map(|peer| &peer.ways);
        ways.any(|way| {
            way.id == path && way.sent.is_some_and(|sent| sent.after(way.lease) <= round)
        })
    }

    /// Its leases ran out while this node was held up: begins to ask for them anew. Whether it may, since its
    /// kernel has not given way meanwhile.
    pub(super) fn lapse(&mut self, now: MonoNs) -> bool {
        if self.granted_meanwhile().is_some() {
            return false;
        }
        self.phase = Phase::Announcing;
        self.resumes = true;
        self.begin(now);
        for peer in &mut self.peers {
            peer.view.deadline = MonoNs::ZERO;
        }
        true
    }

    pub(super) fn gives_up_at(&self) -> MonoNs {
        self.stood_at.after(self.slowest_lease().times(PATIENCE))
    }
}

impl Instance {
    /// How fast the echoes on its paths are to follow each other because of this instance.
    pub(crate) fn pace(&self) -> Pace {
        match (&self.leases, self.state) {
            (Some(leases), State::Promoting) => match leases.phase {
                Phase::Promised => Pace::Hello,
                Phase::Announcing => Pace::Announce,
                Phase::Won => Pace::Hold,
            },
            (Some(_), State::Active) => Pace::Hold,
            (Some(leases), State::Backup) if leases.awaited.is_some() => Pace::Hold,
            _ => Pace::Hello,
        }
    }

    /// Whether its leases are asked for on a path.
    pub(crate) fn uses(&self, path: PathId) -> bool {
        self.leases.as_ref().is_some_and(|leases| {
            let mut ways = leases.peers.iter().flat_map(|peer| &peer.ways);
            ways.any(|way| way.id == path)
        })
    }

    /// The words were read again. To be called before anything is judged by the gate's deadline.
    ///
    /// Returns which peer holds the instance that was not known to: also where the kernel's report was lost.
    pub(crate) fn read_leases(&mut self, views: &LeaseViews, now: MonoNs) -> Option<usize> {
        let leases = self.leases.as_mut()?;
        leases.read_at = now;
        let mut asks = None;
        for (index, (peer, view)) in leases.peers.iter_mut().zip(views).enumerate() {
            if view.asked_at > peer.view.asked_at {
                leases.silence = Silence::Unproven;
                asks = Some(index);
            }
            peer.view = *view;
        }
        let holder = asks.filter(|index| leases.asker != Some(*index));
        let deadline = leases.deadline();
        if asks.is_some() && self.state == State::Backup {
            self.drop_proof();
        }
        if self.state == State::Active {
            self.gate = Some(deadline);
            self.timers.set(Timer::Gate, deadline);
        }
        holder
    }

    /// Until when this node knows how its gate stands: the kernel may have extended it since.
    pub(crate) fn known_until(&self, now: MonoNs) -> MonoNs {
        let read_at = self.leases.as_ref().map(|leases| leases.read_at);
        read_at.map_or(now, |read_at| read_at.min(now))
    }

    /// Whether its gate has run out as far as it knows, and the kernel may have extended it since.
    pub(crate) fn is_unread(&self, now: MonoNs) -> bool {
        self.gate
            .is_some_and(|deadline| deadline <= now && self.known_until(now) < deadline)
    }

    /// What follows from them, after a node that is late has stepped down.
    pub(crate) fn consider_leases(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        if let Some(peer) = self.leases.as_ref().and_then(Leases::granted_meanwhile) {
            return self.yielded_to(peer);
        }
        match self.state {
            State::Promoting => self.consider_candidacy(now, out),
            State::Active => {
                self.go_on_alone(now, out);
                Verdict::Stay
            }
            State::Backup if self.awaits_peer() => Verdict::Claim,
            _ => Verdict::Stay,
        }
    }

    /// Until when a promise keeps this node from acting.
    pub(crate) fn promised_until(&self) -> MonoNs {
        self.leases
            .as_ref()
            .map_or(MonoNs::ZERO, Leases::promised_until)
    }

    /// When a peer that fell silent cannot hold the instance any more.
    pub(super) fn holder_outlived(&self) -> MonoNs {
        self.leases
            .as_ref()
            .map_or(MonoNs::ZERO, |leases| leases.outlived(&self.speakers))
    }

    /// Every promise has run out: nobody who relied on one holds the instance any more, unless it was heard
    /// later by its adverts. Only who asked until then and advertises no longer than that proves it by
    /// silence; for all others the Active_Down_Interval decides.
    pub(crate) fn lease_silence(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if self.state != State::Backup || self.released.is_some() || self.claim.is_some() {
            return Verdict::Stay;
        }
        let due = leases.promised_until();
        if now < due {
            self.timers.set(Timer::ActiveDown, due);
            return Verdict::Stay;
        }
        if leases.silence == Silence::Unproven {
            leases.silence = Silence::Proven;
        }
        let Some(asker) = leases.asker() else {
            return Verdict::Stay;
        };
        let goes_on = asker.view.asked_at.after(asker.fastest().times(2));
        let bound = self
            .speakers
            .iter()
            .filter(|speaker| Some(speaker.advert.sender) == self.active || self.active.is_none())
            .all(|speaker| speaker.advert.sender == asker.address && speaker.last <= goes_on);
        let due = leases.outlived(&self.speakers);
        if !bound || self.others_outlived() > now {
            return Verdict::Stay;
        }
        if now < due {
            self.timers.set(Timer::ActiveDown, due);
            return Verdict::Stay;
        }
        self.believe(Claim::Silence, now, now, out)
    }

    /// Active_Down_Timer fired at `now` before the Active_Down_Interval was over, perhaps because the kernel
    /// found that nobody asks. If this node was held up since, a request may have been lost: who is there asks
    /// again within a lease.
    pub(super) fn lease_silence_due(
        &mut self,
        due: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        let Some(asker) = leases.asker() else {
            return Verdict::Stay;
        };
        let again = now.after(asker.slowest_lease());
        let late = now.since(due) >= asker.fastest();
        match leases.silence {
            Silence::Unproven => Verdict::Stay,
            Silence::Proven if late => {
                leases.silence = Silence::Doubted;
                self.timers.set(Timer::ActiveDown, again);
                Verdict::Stay
            }
            Silence::Proven | Silence::Doubted => self.lease_silence(now, out),
        }
    }

    /// A peer asks.
    pub(crate) fn asked(&mut self, peer: usize, ask: Ask) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if ask != Ask::Hold || peer >= leases.peers.len() {
            return Verdict::Stay;
        }
        leases.asker = Some(peer);
        leases.silence = Silence::Unproven;
        if self.state != State::Backup {
            return Verdict::Stay;
        }
        self.drop_proof();
        self.released = None;
        if self.may_preempt() {
            Verdict::Stay
        } else {
            Verdict::Blocked
        }
    }

    /// Who asks is there: what proved that nobody is does so no more, also where a hold-down kept this node
    /// from acting on it.
    fn drop_proof(&mut self) {
        if matches!(
            self.claim,
            Some(Claim::Silence | Claim::Dead(_) | Claim::Released(_))
        ) {
            self.claim = None;
        }
    }

    /// A peer lets go.
    pub(crate) fn peer_released(
        &mut self,
        peer: usize,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        let Some(address) = leases.peers.get(peer).map(|peer| peer.address) else {
            return Verdict::Stay;
        };
        let held = leases.asker == Some(peer);
        if held {
            leases.asker = None;
        }
        match self.state {
            State::Backup if held || self.active == Some(address) => {
                self.active = Some(address);
                self.backup_released(address, true, received_at, now)
            }
            State::Promoting => {
                self.forget(address);
                self.losers_gone(now, out)
            }
            _ => Verdict::Stay,
        }
    }

    /// The kernel gave way to a peer.
    pub(crate) fn yielded_to(&mut self, peer: usize) -> Verdict {
        let address = self
            .leases
            .as_ref()
            .and_then(|leases| leases.peers.get(peer))
            .map(|peer| peer.address);
        let (true, Some(to)) = (self.speaks(), address) else {
            return Verdict::Stay;
        };
        Verdict::Leave(Departure {
            to: State::Backup,
            cause: Cause::Yielded { to },
            farewell: self.sent.is_some(),
        })
    }

    /// Elected: the peers' promises come first.
    pub(super) fn compete(&mut self, calls: bool, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        leases.phase = Phase::Promised;
        leases.resumes = false;
        leases.begin(now);
        self.calls = calls;
        if calls {
            // A lower one lets go when it hears this; its kernel closes its gate at once.
            self.send(self.config.priority, now, out);
            self.timers
                .set(Timer::Advert, now.after(self.config.advert_interval));
        }
        out.push(Action::Act {
            instance: self.config.id,
        });
    }

    /// Whether every promise was turned into "this node acts".
    pub(super) fn acted(
        &mut self,
        result: Result<(), MonoNs>,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if self.state != State::Promoting || leases.phase != Phase::Promised {
            return Verdict::Stay;
        }
        match result {
            Ok(()) => {
                leases.phase = Phase::Announcing;
                leases.begin(now);
                out.push(Action::Stand {
                    instance: self.config.id,
                    standing: Standing::Candidate,
                });
                self.timers.set(Timer::Candidate, leases.gives_up_at());
                Verdict::Stay
            }
            Err(until) if self.calls => {
                let due = until.max(now.after(self.config.advert_interval));
                self.timers.set(Timer::Candidate, due);
                Verdict::Stay
            }
            Err(_) => Verdict::Leave(Departure::silently(Cause::Promised)),
        }
    }

    /// An echo left, or could not.
    pub(crate) fn echo_sent(
        &mut self,
        path: PathId,
        round: MonoNs,
        left: bool,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let round_trip = self.leases.as_ref().map(Leases::round_trip);
        let (Some(leases), Some(round_trip)) = (&mut self.leases, round_trip) else {
            return Verdict::Stay;
        };
        if round < leases.stood_at {
            return Verdict::Stay;
        }
        if self.state == State::Promoting && leases.is_forgotten(path, round) {
            // This node was held up: whoever heard it has forgotten, and may have answered meanwhile.
            leases.phase = Phase::Announcing;
            leases.begin(round);
            self.timers.set(Timer::Candidate, leases.gives_up_at());
        }
        let ways = leases.peers.iter_mut().flat_map(|peer| &mut peer.ways);
        for way in ways.filter(|way| way.id == path) {
            way.tried += 1;
            if left {
                way.announced += 1;
                way.sent = Some(round);
            }
        }
        if self.state == State::Promoting
            && leases.phase == Phase::Announcing
            && leases.decide_at.is_none()
            && leases.is_announced()
        {
            let decide_at = now.after(round_trip);
            leases.decide_at = Some(decide_at);
            self.timers.set(Timer::Candidate, decide_at);
        }
        match self.state {
            State::Promoting => self.consider_candidacy(now, out),
            State::Active => {
                self.go_on_alone(now, out);
                Verdict::Stay
            }
            _ => Verdict::Stay,
        }
    }

    /// A longer round trip than before, or a shorter one.
    pub(crate) fn measured(&mut self, path: PathId, round_trip: Option<Nanos>) {
        let ways = self.leases.iter_mut().flat_map(|leases| &mut leases.peers);
        for way in ways.flat_map(|peer| &mut peer.ways) {
            if way.id == path {
                way.round_trip = round_trip;
            }
        }
    }

    /// The promise that was in the way has run out, or every refusal that there is has come.
    pub(super) fn candidate_due(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Some(leases) = &self.leases else {
            return Verdict::Stay;
        };
        if self.state == State::Promoting && leases.phase == Phase::Promised {
            return self.losers_gone(now, out);
        }
        if self.state != State::Promoting || leases.phase != Phase::Announcing {
            return Verdict::Stay;
        }
        if now < leases.gives_up_at() {
            self.timers.set(Timer::Candidate, leases.gives_up_at());
            return self.consider_candidacy(now, out);
        }
        let refuses = leases.peers.iter().find(|peer| peer.view.deadline <= now);
        let cause = match refuses {
            Some(peer) if peer.view.heard_at < leases.stood_at => Cause::Alone {
                without: peer.address,
            },
            Some(peer) => Cause::NotGranted { by: peer.address },
            None => return self.consider_candidacy(now, out),
        };
        Verdict::Leave(Departure {
            to: State::Backup,
            cause,
            farewell: self.sent.is_some(),
        })
    }

    /// A candidate may speak when every peer has granted, or was not heard since it began to announce
    /// itself and had the time to answer. Who was heard shortly before is alive, unless it let go: it may have
    /// gone on alone while its echoes were lost, as the announcements may be by now. So it counts as silent
    /// only when it would itself count this node as that.
    fn consider_candidacy(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if leases.phase == Phase::Promised {
            return Verdict::Stay;
        }
        let decided = leases.decide_at.is_some_and(|at| at <= now);
        #[cfg(feature = "sim")]
        let decided = decided || self.mutations.unannounced;
        let serves = leases.alone == Alone::Serve;
        let missing: Vec<(usize, bool)> = (0..)
            .zip(&leases.peers)
            .filter(|(_, peer)| peer.view.deadline <= now)
            .map(|(index, peer)| {
                let released = self.claim == Some(Claim::Released(peer.address));
                // What came while it was held up it has not heard.
                let listened = !leases.resumes || leases.stood_at.after(peer.longest_hold()) <= now;
                let silent = released || peer.is_silent(now) && listened;
                (index, silent && peer.view.heard_at < leases.stood_at)
            })
            .collect();
        for (index, silent) in &missing {
            if decided && serves && *silent {
                self.renew_alone(*index, now, out);
            }
        }
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if !missing.is_empty() {
            return Verdict::Stay;
        }
        if leases.phase == Phase::Announcing {
            leases.phase = Phase::Won;
            self.timers.stop(Timer::Candidate);
            if !self.calls {
                self.send(self.config.priority, now, out);
                self.timers
                    .set(Timer::Advert, now.after(self.config.advert_interval));
            }
        }
        Verdict::Open
    }

    /// Whether the leases allow to open.
    pub(super) fn leases_allow(&self, now: MonoNs) -> bool {
        self.leases
            .as_ref()
            .is_some_and(|leases| leases.phase == Phase::Won && leases.deadline() > now)
    }

    /// Speaks from now on.
    pub(super) fn open_by_leases(&mut self, now: MonoNs, out: &mut Outbox) {
        out.push(Action::Stand {
            instance: self.config.id,
            standing: Standing::Active,
        });
        let Some(leases) = &mut self.leases else {
            return;
        };
        leases.resumes = false;
        let deadline = leases.deadline();
        self.gate = Some(deadline);
        self.timers.set(Timer::Gate, deadline);
        self.arm_alone(now);
    }

    /// Tells that nothing is asked for any more. The gate was closed before.
    pub(crate) fn let_go_of_leases(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &mut self.leases else {
            return;
        };
        leases.phase = Phase::Promised;
        leases.resumes = false;
        for peer in &mut leases.peers {
            peer.view.deadline = MonoNs::ZERO;
        }
        let instance = self.config.id;
        out.push(Action::Stand {
            instance,
            standing: Standing::Bystander,
        });
        out.push(Action::SendRelease {
            instance,
            round: now,
        });
        out.push(Action::LetGo { instance });
    }

    /// Why the gate ran out at `deadline`.
    pub(super) fn late_by_leases(&self, deadline: MonoNs, now: MonoNs) -> Option<Cause> {
        let leases = self.leases.as_ref()?;
        let peer = leases.peers.iter().min_by_key(|peer| peer.view.deadline)?;
        let echoed = peer.alone_until().is_some_and(|until| until > now);
        Some(match leases.alone {
            _ if echoed && !peer.is_silent(now) => Cause::NotGranted { by: peer.address },
            Alone::Stop if echoed => Cause::Alone {
                without: peer.address,
            },
            // Else it would have gone on alone in time.
            _ => Cause::Late {
                by: now.since(deadline),
            },
        })
    }

    /// A peer may have fallen silent, or one that is waited for be back.
    pub(super) fn alone_due(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        if self.state == State::Active {
            self.go_on_alone(now, out);
        }
        if self.awaits_peer() {
            Verdict::Claim
        } else {
            Verdict::Stay
        }
    }

    pub(crate) fn awaits_peer(&self) -> bool {
        self.leases
            .as_ref()
            .is_some_and(|leases| leases.awaited.is_some())
    }

    /// Before it stands: looks whether it has to wait for a peer. Echoes go out as fast as those of a holder
    /// meanwhile; one that heard hellos alone so far answers the first of them.
    pub(crate) fn await_peers(&mut self, now: MonoNs, out: &mut Outbox) {
        let claims = self.claims();
        let Some(leases) = &mut self.leases else {
            return;
        };
        let Some(missing) = leases.missing(now).filter(|_| claims) else {
            if leases.awaited.take().is_some() {
                self.timers.stop(Timer::Alone);
            }
            return;
        };
        let peer = &leases.peers[missing];
        let since = leases.awaited.map_or(now, |awaited| awaited.since);
        let mut told = leases.awaited.is_some_and(|awaited| awaited.told);
        let sentence = (!told && since.after(peer.slowest_lease()) <= now)
            .then(|| format!("waits for {}: alone = \"stop\"", peer.address));
        told |= sentence.is_some();
        self.timers.set(Timer::Alone, now.after(peer.fastest()));
        leases.awaited = Some(Awaited {
            peer: missing,
            since,
            told,
        });
        // Who let go because it was alone has said so.
        if let Some(sentence) = sentence
            && !matches!(self.cause, Cause::Alone { .. })
        {
            self.note(sentence, out);
        }
    }

    /// Forgets whom it waited for.
    pub(super) fn await_nobody(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.awaited = None;
        }
    }

    fn arm_alone(&mut self, now: MonoNs) {
        let due = self
            .leases
            .iter()
            .flat_map(|leases| &leases.peers)
            .map(Peer::silent_from)
            .filter(|due| *due > now)
            .min();
        match due {
            Some(due) => self.timers.set(Timer::Alone, due),
            None => self.timers.stop(Timer::Alone),
        }
    }

    /// Renews the leases of peers of which nothing is heard: with every echo, so that a whole lease is left to
    /// ask for a grant when the peer is back.
    fn go_on_alone(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &self.leases else {
            return;
        };
        if leases.alone == Alone::Serve {
            for (index, peer) in leases.peers.iter().enumerate() {
                if peer.is_silent(now) {
                    self.renew_alone(index, now, out);
                }
            }
        }
        self.arm_alone(now);
    }

    /// A loser need not be outlived any more, since it asks: now the promises are what is waited for.
    pub(super) fn await_promises(&mut self, now: MonoNs) {
        if let Some(leases) = &self.leases
            && leases.phase == Phase::Promised
        {
            let due = leases.promised_until().max(now);
            self.timers.set(Timer::Candidate, due);
        }
    }

    /// After a loser's end was noticed: takes what it held, if its promise allows.
    pub(super) fn losers_gone(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        self.await_losers(now);
        let waits = self
            .leases
            .as_ref()
            .is_some_and(|leases| leases.phase == Phase::Promised);
        if waits && !self.contested {
            out.push(Action::Act {
                instance: self.config.id,
            });
            return Verdict::Stay;
        }
        Verdict::Open
    }

    /// When to look again, where only this node's own sleep may have made a peer silent: the kernel, whose
    /// timer knows whether it slept, has not said so.
    pub(super) fn may_have_slept(&self, now: MonoNs) -> Option<MonoNs> {
        let leases = self.leases.as_ref()?;
        let unproven = leases.asker.is_some() && leases.silence == Silence::Unproven;
        unproven.then(|| now.after(leases.slowest_lease()))
    }

    /// Whether what was heard of a router's end needs a promise's end, too.
    pub(super) fn is_promised(&self, now: MonoNs) -> bool {
        self.promised_until() > now
    }

    /// Renews a lease to what the last echo would give, never from now: a peer that heard it grants as
    /// much.
    fn renew_alone(&self, index: usize, now: MonoNs, out: &mut Outbox) {
        let Some(peer) = self
            .leases
            .as_ref()
            .and_then(|leases| leases.peers.get(index))
        else {
            return;
        };
        let until = peer.alone_until();
        #[cfg(feature = "sim")]
        let until = if self.mutations.alone_from_now {
            Some(now.after(peer.slowest_lease()))
        } else if self.mutations.unannounced {
            until.or(Some(now.after(peer.slowest_lease())))
        } else {
            until
        };
        let Some(until) = until.filter(|until| *until > now) else {
            return;
        };
        let lease = Lease::new(self.epoch, until);
        if lease.deadline() > peer.view.deadline {
            out.push(Action::RenewAlone {
                instance: self.config.id,
                peer: index,
                lease,
                heard_at: peer.view.heard_at,
            });
        }
    }
}
