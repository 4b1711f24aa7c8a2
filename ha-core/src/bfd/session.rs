//! The state machine of a session.

use alloc::{collections::VecDeque, format};

use ha_common::{
    MonoNs, Nanos,
    wire::bfd::{self, Control, Diagnostic, Payload, Reject, State},
};

use super::{Action, Authenticator, Cause, Change, Input, SessionConfig, SessionStatus};
use crate::status::Span;

/// Desired Min TX Interval while the session is not Up, at least (RFC 5880 section 6.8.3).
const SLOW_US: u32 = 1_000_000;

/// How long the kernel's report of silence may be missing before the session looks itself.
const BACKSTOP: Nanos = Nanos::from_secs(1);

/// Deadlines in a row that are not believed because this node was held up, as in an election.
const DOUBTS: u32 = 3;

/// What the peer said last (the bfd.Remote… variables of RFC 5880 section 6.8.1).
#[derive(Clone, Copy, Debug)]
struct Remote {
    /// `None` before it was heard, and again after a Detection Time of silence.
    control: Option<Control>,
    /// What is left when the discriminator is forgotten.
    state: State,
    diagnostic: Diagnostic,
    min_rx_us: u32,
}

/// An interval as it is advertised and as it is used: while Up, what would make the peer expect too much
/// waits until the peer has confirmed it (RFC 5880 section 6.8.3).
#[derive(Clone, Copy, Debug)]
struct Interval {
    advertised_us: u32,
    used_us: u32,
}

impl Interval {
    const fn new(us: u32) -> Self {
        Self {
            advertised_us: us,
            used_us: us,
        }
    }

    /// Whether the advertised one changed. It is used at once unless `waits`.
    fn set(&mut self, us: u32, waits: bool) -> bool {
        let changed = self.advertised_us != us;
        self.advertised_us = us;
        if !waits {
            self.used_us = us;
        }
        changed
    }

    fn settle(&mut self) {
        self.used_us = self.advertised_us;
    }
}

/// A session, driven by the contract in this module's documentation.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    auth: Option<Authenticator>,
    state: State,
    cause: Cause,
    since: MonoNs,
    diagnostic: Diagnostic,
    remote: Remote,
    transmit: Interval,
    receive: Interval,
    /// A Poll Sequence is going on.
    polling: bool,
    /// When the last packet arrived that was not discarded.
    heard: Option<MonoNs>,
    doubts: u32,
    /// When the next periodic packet is due; `None`: none is to be sent.
    transmit_at: Option<MonoNs>,
    /// The interval, without jitter, for which that was computed.
    scheduled: Nanos,
    /// When the last periodic packet was sent, and what it said.
    last_sent: Option<(MonoNs, Control)>,
    /// When to look whether the peer is silent.
    detect_at: Option<MonoNs>,
    /// What the kernel was told last.
    watched: Option<Nanos>,
    sent: u64,
    rejected: u64,
    flaps: u64,
    urgent: VecDeque<Action>,
    words: VecDeque<Action>,
}

impl Session {
    /// Begins in Down; the first packet is due at once. `random` is the first sequence number of
    /// authentication.
    #[must_use]
    pub fn new(config: SessionConfig, now: MonoNs, random: u32) -> Self {
        let slow = config.desired_min_tx_us.max(SLOW_US);
        let mut session = Self {
            auth: config
                .auth
                .clone()
                .map(|auth| Authenticator::new(auth, random)),
            state: State::Down,
            cause: Cause::Started,
            since: now,
            diagnostic: Diagnostic::NONE,
            remote: Remote {
                control: None,
                state: State::Down,
                diagnostic: Diagnostic::NONE,
                min_rx_us: 1,
            },
            transmit: Interval::new(slow),
            receive: Interval::new(config.required_min_rx_us),
            config,
            polling: false,
            heard: None,
            doubts: 0,
            transmit_at: None,
            scheduled: Nanos::ZERO,
            last_sent: None,
            detect_at: None,
            watched: None,
            sent: 0,
            rejected: 0,
            flaps: 0,
            urgent: VecDeque::new(),
            words: VecDeque::new(),
        };
        session.schedule(now, random);
        session
    }

    /// Takes in something that happened. Poll the actions and the timeout afterwards.
    pub fn handle(&mut self, input: Input, now: MonoNs, random: u32) {
        match input {
            Input::Packet {
                payload,
                received_at,
            } => {
                if self.receive(&payload, received_at, now).is_err() {
                    self.rejected += 1;
                }
            }
            Input::Silence => self.kernel_silence(now),
            Input::Disable => self.disable(now),
            Input::Enable => {
                if self.state == State::AdminDown {
                    self.transit(State::Down, Diagnostic::NONE, Cause::Enabled, now);
                    self.arm_detection();
                }
            }
            Input::Configure(config) => self.configure(config, random),
        }
        self.settle(now, random);
    }

    /// Serves the timers that are due. Poll the actions and the timeout afterwards.
    pub fn handle_timeout(&mut self, now: MonoNs, random: u32) {
        if let Some(due) = self.detect_at.take_if(|due| *due <= now) {
            self.detection_due(due, now);
        }
        if self.transmit_at.take_if(|due| *due <= now).is_some() && self.may_transmit() {
            self.send(now);
        }
        self.settle(now, random);
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.urgent.pop_front().or_else(|| self.words.pop_front())
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoNs> {
        [self.transmit_at, self.detect_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The session for people.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        SessionStatus {
            state: self.state,
            cause: self.cause,
            since: self.since,
            remote_state: self.remote.state,
            diagnostic: self.diagnostic,
            remote_diagnostic: self.remote.diagnostic,
            transmit_interval: self.transmit_interval(),
            receive_interval: self.receive_interval(),
            detection_time: self.detection_time(),
            heard: self.heard,
            sent: self.sent,
            rejected: self.rejected,
            flaps: self.flaps,
        }
    }

    /// The rest of RFC 5880 section 6.8.6.
    fn receive(
        &mut self,
        payload: &Payload,
        received_at: MonoNs,
        now: MonoNs,
    ) -> Result<(), Reject> {
        let (control, section) = bfd::parse(payload.as_slice())?;
        let ours = self.config.local_discriminator.get();
        if control.your_discriminator != 0 && control.your_discriminator != ours {
            return Err(Reject::UnknownDiscriminator);
        }
        let genuine = match (&mut self.auth, &section) {
            (None, None) => true,
            (Some(auth), Some(section)) => auth.verify(payload, section, &control, now),
            _ => false,
        };
        if !genuine {
            return Err(Reject::Authentication);
        }
        self.take(control, received_at, now);
        Ok(())
    }

    /// Takes in a packet that is valid in every respect.
    fn take(&mut self, control: Control, received_at: MonoNs, now: MonoNs) {
        if self.heard.is_some_and(|heard| received_at < heard) {
            // A later one was taken before it (its stamp was read): what this one says of the peer is past.
            if control.poll && self.state != State::AdminDown {
                self.answer();
            }
            return;
        }
        self.remote = Remote {
            control: Some(control),
            state: control.state,
            diagnostic: control.diagnostic,
            min_rx_us: control.required_min_rx_us,
        };
        if control.is_final && self.polling {
            self.polling = false;
            self.transmit.settle();
            self.receive.settle();
        }
        if let Some(auth) = &mut self.auth {
            let forgotten = received_at.after(detection_time(&self.receive, &control).times(2));
            auth.remember_until(forgotten);
        }
        if self.state == State::AdminDown {
            return;
        }
        self.advance(&control, now);
        if control.poll {
            self.answer();
        }
        self.heard = self.heard.max(Some(received_at));
        self.doubts = 0;
        self.arm_detection();
    }

    fn advance(&mut self, control: &Control, now: MonoNs) {
        let peer = Cause::Peer(control.state);
        match (self.state, control.state) {
            (State::Down, State::Down) => {
                self.transit(State::Init, self.diagnostic, peer, now);
            }
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.transit(State::Up, Diagnostic::NONE, peer, now);
            }
            (State::Init | State::Up, State::AdminDown) => {
                let diagnostic = Diagnostic::NEIGHBOR_DOWN;
                self.transit(State::Down, diagnostic, Cause::PeerAdminDown, now);
            }
            (State::Up, State::Down) => {
                let cause = Cause::PeerDown(control.diagnostic);
                self.transit(State::Down, Diagnostic::NEIGHBOR_DOWN, cause, now);
            }
            _ => {}
        }
    }

    /// The kernel says that the peer is silent; a packet that came since was handed in before.
    fn kernel_silence(&mut self, now: MonoNs) {
        if self.state != State::Up {
            return;
        }
        if let Some(due) = self.silence_due() {
            if now < due {
                // It may not be told again, so this time the session waits for the exact end itself.
                self.detect_at = Some(due);
            } else {
                self.detection_due(due, now);
            }
        }
    }

    /// The Detection Time may be over (RFC 5880 section 6.8.4). A deadline that passed while this node was
    /// held up proves nothing: packets may wait to be read. One more interval of silence does.
    fn detection_due(&mut self, due: MonoNs, now: MonoNs) {
        let Some(end) = self.silence_due() else {
            return;
        };
        if now < end {
            self.arm_detection();
            return;
        }
        let late = now.since(due);
        let interval = self.receive_interval();
        if matches!(self.state, State::Init | State::Up) {
            if late > interval && self.doubts < DOUBTS {
                self.doubts += 1;
                self.detect_at = Some(now.after(interval));
                let sentence = format!(
                    "this node was held up for {} beyond the end of the Detection Time: it waits {} \
                     more before it believes the silence",
                    Span(late),
                    Span(interval)
                );
                self.words.push_back(Action::Note(sentence));
                return;
            }
            let silent = now.since(self.heard.unwrap_or_default());
            self.transit(
                State::Down,
                Diagnostic::EXPIRED,
                Cause::Expired { silent },
                now,
            );
        }
        self.doubts = 0;
        self.detect_at = None;
        self.remote.control = None;
    }

    fn disable(&mut self, now: MonoNs) {
        if self.state != State::AdminDown {
            self.transit(
                State::AdminDown,
                Diagnostic::ADMIN_DOWN,
                Cause::Disabled,
                now,
            );
        }
    }

    fn configure(&mut self, config: SessionConfig, random: u32) {
        if config.auth != self.config.auth {
            self.auth = config
                .auth
                .clone()
                .map(|auth| Authenticator::new(auth, random));
        }
        self.config = config;
        self.adopt_intervals();
        self.arm_detection();
    }

    /// Advertises the intervals of the present state; what changed is confirmed by a Poll Sequence.
    fn adopt_intervals(&mut self) {
        let up = self.state == State::Up;
        let wanted = self.config.desired_min_tx_us;
        let tx = if up { wanted } else { wanted.max(SLOW_US) };
        let rx = self.config.required_min_rx_us;
        let slower = up && tx > self.transmit.used_us;
        let faster = up && rx < self.receive.used_us;
        let changed = self.transmit.set(tx, slower) | self.receive.set(rx, faster);
        self.polling |= changed;
    }

    fn transit(&mut self, to: State, diagnostic: Diagnostic, cause: Cause, now: MonoNs) {
        let from = self.state;
        if from == State::Up {
            self.flaps += 1;
        }
        self.state = to;
        self.diagnostic = diagnostic;
        self.cause = cause;
        self.since = now;
        self.adopt_intervals();
        self.words.push_back(Action::Report(Change {
            from,
            to,
            cause,
            at: now,
        }));
    }

    /// After whatever happened: says at once what the peer does not know yet (RFC 5880 section 6.8.7), and
    /// brings the timers and the kernel's watch up to date.
    fn settle(&mut self, now: MonoNs, random: u32) {
        let news = self
            .last_sent
            .is_none_or(|(_, last)| last != self.control(false));
        if news && self.may_transmit() {
            self.send(now);
        }
        self.schedule(now, random);
        let watched =
            (self.config.is_watched() && self.state == State::Up).then(|| self.detection_time());
        if watched != self.watched {
            self.watched = watched;
            self.urgent.push_back(Action::Watch(watched));
            self.arm_detection();
        }
    }

    /// The next periodic packet: an interval less jitter after the last one.
    fn schedule(&mut self, now: MonoNs, random: u32) {
        let interval = self.transmit_interval();
        if !self.may_transmit() {
            self.transmit_at = None;
        } else if self.transmit_at.is_none() || self.scheduled != interval {
            self.scheduled = interval;
            self.transmit_at = Some(match self.last_sent {
                Some((last, _)) => last.after(self.jittered(interval, random)),
                None => now,
            });
        }
    }

    /// Less 0 to 25 %; with a Detect Mult of 1, less 10 to 25 % (RFC 5880 section 6.8.7).
    fn jittered(&self, interval: Nanos, random: u32) -> Nanos {
        let (most, range) = if self.config.multiplier == 1 {
            (interval.0 / 10 * 9, interval.0 / 20 * 3)
        } else {
            (interval.0, interval.0 / 4)
        };
        let less = (u128::from(range) * u128::from(random)) >> 32;
        Nanos(most - u64::try_from(less).unwrap_or(range))
    }

    /// Whether periodic packets may be sent (RFC 5880 section 6.8.7).
    fn may_transmit(&self) -> bool {
        let waits = self.config.passive && self.remote.control.is_none();
        let demanded = self.remote.control.is_some_and(|control| {
            control.demand && control.state == State::Up && self.state == State::Up
        });
        self.remote.min_rx_us != 0 && !waits && (!demanded || self.polling)
    }

    fn send(&mut self, now: MonoNs) {
        let control = self.control(self.polling);
        self.push(&control);
        self.last_sent = Some((
            now,
            Control {
                poll: false,
                ..control
            },
        ));
        self.transmit_at = None;
    }

    /// Answers a poll, whatever the timers say (RFC 5880 section 6.5).
    fn answer(&mut self) {
        let control = Control {
            is_final: true,
            ..self.control(false)
        };
        self.push(&control);
    }

    fn push(&mut self, control: &Control) {
        let payload = match &mut self.auth {
            Some(auth) => auth.sign(control),
            None => Payload::plain(control),
        };
        self.sent += 1;
        self.urgent.push_back(Action::Transmit(payload));
    }

    fn control(&self, poll: bool) -> Control {
        Control {
            diagnostic: self.diagnostic,
            state: self.state,
            poll,
            is_final: false,
            independent: false,
            authenticated: self.auth.is_some(),
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.config.local_discriminator.get(),
            your_discriminator: self
                .remote
                .control
                .map_or(0, |control| control.my_discriminator),
            desired_min_tx_us: self.transmit.advertised_us,
            required_min_rx_us: self.receive.advertised_us,
            required_min_echo_rx_us: 0,
        }
    }

    /// RFC 5880 section 6.8.2.
    fn transmit_interval(&self) -> Nanos {
        micros(self.transmit.used_us.max(self.remote.min_rx_us))
    }

    fn receive_interval(&self) -> Nanos {
        self.remote.control.map_or(Nanos::ZERO, |control| {
            receive_interval(&self.receive, &control)
        })
    }

    fn detection_time(&self) -> Nanos {
        self.remote.control.map_or(Nanos::ZERO, |control| {
            detection_time(&self.receive, &control)
        })
    }

    /// When silence is proven, or (not Up) the peer's discriminator is forgotten.
    fn silence_due(&self) -> Option<MonoNs> {
        self.remote.control?;
        Some(self.heard?.after(self.detection_time()))
    }

    /// Where the kernel watches, only a backstop.
    fn arm_detection(&mut self) {
        let slack = match self.watched {
            Some(_) => BACKSTOP,
            None => Nanos::ZERO,
        };
        self.detect_at = self.silence_due().map(|due| due.after(slack));
    }
}

/// Between two packets of the peer's, at most.
fn receive_interval(ours: &Interval, control: &Control) -> Nanos {
    micros(ours.used_us.max(control.desired_min_tx_us))
}

/// RFC 5880 section 6.8.4.
fn detection_time(ours: &Interval, control: &Control) -> Nanos {
    receive_interval(ours, control).times(control.multiplier.into())
}

const fn micros(us: u32) -> Nanos {
    Nanos::from_micros(us as u64)
}
