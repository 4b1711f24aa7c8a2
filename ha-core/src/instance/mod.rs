//! One virtual router: its state, and what it does by itself.
//!
//! What concerns the instance's whole unit (its group, or itself alone) is not decided here: handlers
//! return a [`Verdict`], and the engine applies it to every member.

mod active;
mod announce;
mod arbitration;
mod backup;
mod channels;
pub(crate) mod lease;
mod link;
mod promoting;
mod reload;
mod roles;
mod track;

use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

use ha_common::{MonoNs, Nanos, Priority, gate::Epoch};

pub(crate) use self::roles::Roles;
use self::{
    arbitration::Arbitrators,
    lease::{Company, Leases},
};
use crate::{
    config::InstanceConfig,
    event::{Action, Advert, ChannelState, Input, InstanceId, InterfaceCondition},
    outbox::Outbox,
    status::{Cause, State, Transition},
    timer::{Timer, TimerTable},
    tracking::{Source, Veto},
    vrrp::{self, Rank},
};

/// What a handler asks the engine to do with the instance's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Stay,
    /// This member could be promoted: promote the unit if all can.
    Claim,
    /// This member's promotion is complete, or a step nearer: open the unit's gates if all can.
    Open,
    /// This member must let go, and its unit with it.
    Leave(Departure),
    /// This member has to watch another router: members of its unit that speak must let go.
    Blocked,
}

/// How a member lets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    /// Where it goes: Backup, Fault or Initialize.
    pub(crate) to: State,
    /// Why.
    pub(crate) cause: Cause,
    /// Whether it says so with priority 0. Not after its gate ran out: somebody else may speak.
    pub(crate) farewell: bool,
}

impl Departure {
    pub(crate) const fn to_backup(cause: Cause) -> Self {
        Self {
            to: State::Backup,
            cause,
            farewell: true,
        }
    }

    pub(crate) const fn silently(cause: Cause) -> Self {
        Self {
            to: State::Backup,
            cause,
            farewell: false,
        }
    }
}

/// Why a Backup may take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing was heard for the Active_Down_Interval.
    Silence,
    /// Every channel to the Active router is dead, and its adverts stopped.
    Dead(IpAddr),
    /// The Active router let go.
    Released(IpAddr),
    /// The Active router's priority is lower.
    Preempt,
    /// Priority 255.
    Owner,
}

/// A router that was heard advertising: its last advert speaks for it for three of its intervals, or
/// until its priority 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub(crate) advert: Advert,
    pub(crate) last: MonoNs,
}

impl Speaker {
    /// When its gate cannot be open any more: for as long as its last advert can keep it open, and
    /// 1/256 for clocks that differ in rate.
    pub(crate) fn outlived(&self) -> MonoNs {
        let gate = vrrp::gate_time(self.advert.interval);
        self.last.after(gate).after(Nanos(gate.0 / 256))
    }
}

/// Routers that can be Active at once after a network was split, as far as they are kept: more than a
/// virtual router has.
const MAX_SPEAKERS: usize = 16;

/// One virtual router.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) config: InstanceConfig,
    /// A longer interval that waits until this node no longer speaks.
    pub(crate) deferred_interval: Option<Nanos>,
    /// Whether the kernel reports silence.
    pub(crate) kernel_watch: bool,
    /// When the start delay is over.
    pub(crate) start_at: MonoNs,

    pub(crate) state: State,
    pub(crate) cause: Cause,
    pub(crate) since: MonoNs,
    /// Why the present promotion began.
    pub(crate) elected_by: Option<Cause>,
    pub(crate) epoch: Epoch,
    pub(crate) timers: TimerTable,

    /// What it competes with.
    pub(crate) priority: Priority,
    /// The same, as what it tracks gives it: see [`Self::standing`].
    pub(crate) tracked: Priority,
    /// Who stands by it while it is Active.
    pub(crate) company: Company,
    /// How far its data is, beside other candidates for leases.
    pub(crate) position: u32,
    /// The veto that stands against it: who, and why.
    pub(crate) veto: Option<Veto>,
    /// What it tracks that is muted.
    pub(crate) muted: Vec<Source>,
    /// What it has to know before it takes over.
    pub(crate) awaits_first: Option<Source>,
    pub(crate) arbitrators: Arbitrators,

    /// `None` until the shell reports it. What a delay holds back is not in it yet.
    pub(crate) condition: Option<InterfaceCondition>,
    /// A change of carrier that has not lasted for long enough.
    pub(crate) unsettled: Option<InterfaceCondition>,
    /// Since when.
    unsettled_since: MonoNs,
    pub(crate) was_ready: bool,
    /// Since when every advert gets here.
    pub(crate) listening_since: MonoNs,

    /// What the last advert with a priority other than 0 said.
    pub(crate) heard: Option<Advert>,
    /// Whether the kernel may have taken repetitions of it without a word: since priority 0 it has not.
    pub(crate) repeats_hidden: bool,
    /// When that arrived, as far as it was reported and not only stamped.
    pub(crate) said_at: MonoNs,
    /// When it, or an equal one after it, arrived.
    pub(crate) stamp: Option<MonoNs>,
    /// The router last heard as Active; nobody after it let go or fell silent.
    pub(crate) active: Option<IpAddr>,

    /// What is known of each of [`InstanceConfig::channels`].
    pub(crate) channels: Vec<ChannelState>,

    /// Backup: why it may take over.
    pub(crate) claim: Option<Claim>,
    /// Backup: when our own priority 0 left, if it was sent.
    pub(crate) farewell_at: Option<MonoNs>,
    /// Backup: who let go; Skew_Time is running.
    pub(crate) released: Option<IpAddr>,
    /// Backup: how often a deadline that passed while this node was held up was not believed.
    pub(crate) doubts: u32,
    /// An operator moved the addresses away: no pre-emption until the other one fails.
    pub(crate) yielded: bool,
    pub(crate) hold_until: Option<MonoNs>,
    pub(crate) failures: u32,

    /// How the roles of its unit stand.
    pub(crate) roles: Roles,
    /// Demoting: where it goes once they are demoted.
    pub(crate) departing: Option<Departure>,
    /// Why it takes no part, although it could: the node is in maintenance, or ends.
    pub(crate) rests: Option<Cause>,

    /// Promoting: whether the VIPs are in place.
    pub(crate) vips: bool,
    /// Who was heard advertising and did not let go; at most [`MAX_SPEAKERS`].
    pub(crate) speakers: Vec<Speaker>,
    /// Promoting: whether a loser still has to close.
    pub(crate) contested: bool,
    /// Promoting: until when others may object, after this node was held up.
    pub(crate) quiet_until: Option<MonoNs>,
    /// Promoting, Active: a lower priority that this node had in this epoch, and when the dataplane
    /// was told of the higher one for sure: until then it closed the gate by the lower one.
    pub(crate) floor: Option<(Priority, Option<MonoNs>)>,
    /// Promoting, Active: when this unit's promotion began.
    pub(crate) elected_at: MonoNs,
    /// Promoting, Active: the last round whose advert was sent.
    pub(crate) sent: Option<MonoNs>,
    /// Promoting, Active: the last error of sending, until one is sent.
    pub(crate) send_error: Option<String>,
    /// Promoting, Active: the last advert out of turn.
    pub(crate) extra_at: Option<MonoNs>,
    /// Active: the gate's deadline.
    pub(crate) gate: Option<MonoNs>,

    /// Leases granted by peers; `None` = adverts alone.
    pub(crate) leases: Option<Leases>,
    /// Promoting, with leases: whether it calls on a lower one to let go, by adverts.
    pub(crate) calls: bool,

    /// Announcements left in this burst.
    pub(crate) announcements: u32,
    /// Bursts of announcements that failed in a row.
    pub(crate) announce_failures: u32,

    #[cfg(feature = "sim")]
    pub(crate) mutations: crate::sim::Mutations,
}

impl Instance {
    /// Raises the epoch that it found, before anything else.
    pub(crate) fn new(
        config: InstanceConfig,
        priority: Priority,
        kernel_watch: bool,
        start_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Self {
        let channels = alloc::vec![ChannelState::Unknown; config.channels.len()];
        let epoch = config.adopted_epoch.raised();
        out.push(Action::SetEpoch {
            instance: config.id,
            epoch,
        });
        out.push(Action::SetRank {
            instance: config.id,
            priority,
            position: 0,
        });
        Self {
            leases: config.lease.as_ref().map(Leases::new),
            calls: false,
            config,
            deferred_interval: None,
            kernel_watch,
            start_at,
            state: State::Initialize,
            cause: Cause::Started,
            since: now,
            elected_by: None,
            epoch,
            timers: TimerTable::default(),
            priority,
            tracked: priority,
            company: Company::None,
            position: 0,
            veto: None,
            muted: Vec::new(),
            awaits_first: None,
            arbitrators: Arbitrators::default(),
            condition: None,
            unsettled: None,
            unsettled_since: MonoNs::ZERO,
            was_ready: false,
            listening_since: now,
            heard: None,
            repeats_hidden: false,
            said_at: MonoNs::ZERO,
            stamp: None,
            active: None,
            channels,
            claim: None,
            farewell_at: None,
            released: None,
            doubts: 0,
            yielded: false,
            hold_until: None,
            failures: 0,
            roles: Roles::None,
            departing: None,
            rests: None,
            vips: false,
            speakers: Vec::new(),
            contested: false,
            quiet_until: None,
            floor: None,
            elected_at: now,
            sent: None,
            send_error: None,
            extra_at: None,
            gate: None,
            announcements: 0,
            announce_failures: 0,
            #[cfg(feature = "sim")]
            mutations: crate::sim::Mutations::default(),
        }
    }

    /// Handles an input that concerns this instance.
    pub(crate) fn handle(&mut self, input: Input, now: MonoNs, out: &mut Outbox) -> Verdict {
        match input {
            Input::Interface { condition, .. } => self.link(condition, now, out),
            Input::Advert {
                advert,
                received_at,
                ..
            } => self.hear(advert, received_at, now, out),
            Input::Heard { received_at, .. } => self.hear_again(received_at, now, out),
            Input::Silence {
                last_received_at, ..
            } => self.kernel_silence(last_received_at, now, out),
            Input::Channel { channel, state, .. } => self.channel(&channel, state, now, out),
            Input::AdvertSent { round, result, .. } => self.advert_sent(round, result, now, out),
            Input::VipsAdded { result, .. } => self.vips_added(result, now, out),
            Input::Announced { result, .. } => {
                self.announced(result, now, out);
                Verdict::Stay
            }
            Input::VipLost { .. } => self.vip_lost(out),
            Input::Reattached { .. } => {
                self.reattached(now, out);
                Verdict::Stay
            }
            Input::LeaseSilence { .. } => self.lease_silence(now, out),
            Input::Asked { peer, ask, .. } => self.asked(peer, ask),
            Input::Released {
                peer, received_at, ..
            } => self.peer_released(peer, received_at, now, out),
            Input::Yielded { peer, .. } => self.yielded_to(peer),
            Input::Acted { result, .. } => self.acted(result, now, out),
            Input::EchoSent { .. }
            | Input::PathHeard { .. }
            | Input::Tracked { .. }
            | Input::Mute { .. }
            | Input::Confirmed { .. }
            | Input::RolesPromoted { .. }
            | Input::RolesDemoted { .. }
            | Input::Prospect { .. }
            | Input::RolesProgress { .. }
            | Input::Mode(_)
            | Input::Switchover(_)
            | Input::Reconfigure(_)
            | Input::Shutdown => Verdict::Stay,
        }
    }

    /// Serves a timer that was due at `due`.
    pub(crate) fn fire(
        &mut self,
        timer: Timer,
        due: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        match timer {
            Timer::Gate | Timer::Promotion => self.overdue(timer, now),
            Timer::Link => self.link_settled(now, out),
            Timer::Start => self.start(Cause::InterfaceReady, now, out),
            Timer::HoldDown => {
                self.hold_until = None;
                Verdict::Claim
            }
            Timer::ActiveDown => self.active_down(due, now, out),
            Timer::Preempt => self.preempt_due(now),
            Timer::Rival => self.losers_outlived(now, out),
            Timer::Alone => self.alone_due(now, out),
            Timer::Candidate => self.candidate_due(now, out),
            Timer::Arbitrate => self.arbitration_due(now, out),
            Timer::Advert => self.advert_due(due, now, out),
            Timer::Announce => {
                self.announce(due, now, out);
                Verdict::Stay
            }
            Timer::Repeat => {
                self.begin_burst(now, out);
                Verdict::Stay
            }
            Timer::Refresh => {
                self.refresh(due, now, out);
                Verdict::Stay
            }
            // The paths' own, that of what is tracked, and that of roles.
            Timer::Echo | Timer::Track | Timer::Roles => Verdict::Stay,
        }
    }

    pub(crate) const fn id(&self) -> InstanceId {
        self.config.id
    }

    /// Whether it is elected, or speaks for the VIPs.
    pub(crate) const fn speaks(&self) -> bool {
        matches!(self.state, State::Promoting | State::Active)
    }

    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self.condition, Some(InterfaceCondition::Ready { .. }))
    }

    pub(crate) fn rank(&self) -> Option<Rank> {
        match self.condition {
            Some(InterfaceCondition::Ready { source }) => Some(Rank {
                priority: self.priority,
                address: source,
            }),
            _ => None,
        }
    }

    /// The interval of the router that is heard, or our own as long as none was (RFC 9568 section 6.1).
    pub(crate) fn active_interval(&self) -> Nanos {
        match (self.active, &self.heard) {
            (Some(_), Some(advert)) => advert.interval,
            _ => self.config.advert_interval,
        }
    }

    pub(crate) fn down_interval(&self) -> Nanos {
        vrrp::active_down_interval(self.config.version, self.priority, self.active_interval())
    }

    /// How long an advert of ours keeps the gate open.
    pub(crate) fn gate_time(&self) -> Nanos {
        let time = vrrp::gate_time(self.config.advert_interval);
        #[cfg(feature = "sim")]
        if self.mutations.gate_stretch {
            return Nanos(time.0 / 5 * 6);
        }
        time
    }

    pub(crate) fn transit(&mut self, to: State, cause: Cause, now: MonoNs, out: &mut Outbox) {
        if self.state == to {
            self.cause = cause;
            return;
        }
        out.report(Transition {
            instance: self.config.id,
            name: self.config.name.clone(),
            from: self.state,
            to,
            cause: cause.clone(),
            at: now,
        });
        self.state = to;
        self.cause = cause;
        self.since = now;
        if !self.holds() {
            self.part_company(out);
        }
    }

    /// Closes for good: whatever lease is in flight carries an epoch of the past.
    pub(crate) fn close(&mut self, now: MonoNs, out: &mut Outbox) {
        self.epoch = self.epoch.raised();
        self.gate = None;
        out.take_back(self.config.id);
        out.push(Action::SetEpoch {
            instance: self.config.id,
            epoch: self.epoch,
        });
        if self.holds() {
            self.let_go_of_leases(now, out);
        }
    }

    pub(crate) fn send(&self, priority: Priority, now: MonoNs, out: &mut Outbox) {
        out.push(Action::SendAdvert {
            instance: self.config.id,
            priority,
            interval: self.config.advert_interval,
            round: now,
        });
    }

    pub(crate) fn note(&self, sentence: String, out: &mut Outbox) {
        out.note(self.config.id, sentence);
    }

    /// Lets the kernel watch, or stops it.
    pub(crate) fn watch(&self, down: Option<Nanos>, out: &mut Outbox) {
        if self.kernel_watch {
            out.push(Action::Watch {
                instance: self.config.id,
                down,
            });
        }
    }

    /// Begins to take part, when the interface is ready and the start delay is over.
    fn start(&mut self, cause: Cause, now: MonoNs, out: &mut Outbox) -> Verdict {
        if !self.is_ready() || !matches!(self.state, State::Initialize | State::Fault) {
            return Verdict::Stay;
        }
        if self.rests.is_some() {
            return Verdict::Stay;
        }
        if let Some(cause) = self.veto_cause() {
            self.transit(State::Fault, cause, now, out);
            return Verdict::Stay;
        }
        if now < self.start_at {
            self.timers.set(Timer::Start, self.start_at);
            return Verdict::Stay;
        }
        self.enter_backup(cause, now, out);
        if self.config.priority == Priority::OWNER {
            self.claim = Some(Claim::Owner);
            return Verdict::Claim;
        }
        Verdict::Stay
    }

    /// Goes where nothing is waited for: Fault or Initialize.
    pub(crate) fn rest(&mut self, to: State, cause: Cause, now: MonoNs, out: &mut Outbox) {
        if self.state == State::Backup {
            self.watch(None, out);
        }
        self.timers.stop_all();
        self.settle();
        self.transit(to, cause, now, out);
    }

    /// Forgets what belongs to a stay that is over, and applies what waited for its end.
    fn settle(&mut self) {
        self.claim = None;
        self.farewell_at = None;
        self.released = None;
        self.doubts = 0;
        self.departing = None;
        self.vips = false;
        self.contested = false;
        self.quiet_until = None;
        self.floor = None;
        self.sent = None;
        self.send_error = None;
        self.extra_at = None;
        self.gate = None;
        self.calls = false;
        self.await_nobody();
        self.announcements = 0;
        self.announce_failures = 0;
        if let Some(interval) = self.deferred_interval.take() {
            self.config.advert_interval = interval;
        }
    }

    /// Whether an advert was seen before: the shell may find it in the ring buffer and in the map.
    fn is_repetition(&self, advert: &Advert, received_at: MonoNs) -> bool {
        self.stamp == Some(received_at) && self.heard.as_ref() == Some(advert)
    }

    fn hear(
        &mut self,
        advert: Advert,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if advert.priority == Priority::RELEASE {
            self.repeats_hidden = false;
        }
        match self.state {
            State::Backup => self.backup_hears(advert, received_at, now, out),
            State::Promoting => self.promoting_hears(advert, received_at, now, out),
            State::Active => self.active_hears(advert, received_at, now, out),
            State::Demoting => self.demoting_hears(advert, received_at, now, out),
            State::Initialize | State::Fault => {
                self.remember(advert, received_at);
                Verdict::Stay
            }
        }
    }

    /// The kernel's stamp moved without an event: the last advert was repeated.
    ///
    /// While the gate is open every advert is an event, and so is the one that closes it: an Active
    /// instance learns nothing here.
    fn hear_again(&mut self, received_at: MonoNs, now: MonoNs, out: &mut Outbox) -> Verdict {
        if self.stamp.is_some_and(|stamp| received_at <= stamp) || self.state == State::Active {
            return Verdict::Stay;
        }
        match self.heard {
            Some(advert) => {
                // An event that says otherwise may still wait to be read.
                let said_at = self.said_at;
                let verdict = self.hear(advert, received_at, now, out);
                self.said_at = said_at;
                verdict
            }
            None => {
                self.stamp = Some(received_at);
                if self.state == State::Backup {
                    self.claim = None;
                    self.arm_active_down();
                }
                Verdict::Stay
            }
        }
    }

    /// Keeps who is Active and since when; priority 0 ends it.
    fn remember(&mut self, advert: Advert, received_at: MonoNs) {
        if advert.priority == Priority::RELEASE {
            self.forget(advert.sender);
            return;
        }
        self.speakers
            .retain(|speaker| speaker.advert.sender != advert.sender);
        if self.speakers.len() == MAX_SPEAKERS {
            self.speakers.remove(0);
        }
        self.speakers.push(Speaker {
            advert,
            last: received_at,
        });
        self.stamp = self.stamp.max(Some(received_at));
        if self.said_at > received_at {
            return;
        }
        // Where the kernel filters, repetitions of the last advert were not reported: the very last may
        // have come just now. Its sender's gate is the one that a short-lived candidate's priority 0
        // must not make us forget.
        let before = self
            .heard
            .filter(|before| self.repeats_hidden && before.sender != advert.sender);
        if let Some(before) = before.filter(|_| !self.holds()) {
            for speaker in &mut self.speakers {
                if speaker.advert.sender == before.sender {
                    speaker.last = speaker.last.max(received_at);
                }
            }
        }
        self.repeats_hidden = true;
        self.said_at = received_at;
        self.heard = Some(advert);
        self.active = Some(advert.sender);
    }

    /// Whether a router advertises without the mark of a `had`.
    pub(crate) fn is_foreign(&self, sender: IpAddr) -> bool {
        self.speakers
            .iter()
            .any(|speaker| speaker.advert.sender == sender && !speaker.advert.from_had)
    }

    /// A router let go.
    pub(crate) fn forget(&mut self, sender: IpAddr) {
        self.speakers
            .retain(|speaker| speaker.advert.sender != sender);
        if self.active == Some(sender) {
            self.active = None;
        }
    }

    /// Whether a router cannot hold the addresses longer than this node's promise lasts.
    pub(crate) fn binds(&self, speaker: &Speaker) -> bool {
        self.leases
            .as_ref()
            .is_some_and(|leases| leases.bind(speaker))
    }

    /// When the gate of every router but the one last heard is closed for sure.
    pub(crate) fn others_outlived(&self) -> MonoNs {
        self.speakers
            .iter()
            .filter(|speaker| Some(speaker.advert.sender) != self.active && !self.binds(speaker))
            .map(Speaker::outlived)
            .max()
            .unwrap_or(MonoNs::ZERO)
    }
}
