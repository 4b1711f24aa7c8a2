//! A session under test, and packets of a peer that says whatever the test wants.

use std::num::NonZeroU32;

use ha_common::{
    MonoNs, Nanos,
    wire::bfd::{self, Control, Diagnostic, Payload, State},
};
use ha_core::bfd::{Action, Change, Input, Session, SessionConfig};

pub(crate) const OURS: u32 = 17;
pub(crate) const THEIRS: u32 = 99;

pub(crate) fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

/// 10 ms both ways, Detect Mult 3, each packet through user space.
pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        local_discriminator: NonZeroU32::new(OURS).expect("not 0"),
        desired_min_tx_us: 10_000,
        required_min_rx_us: 10_000,
        multiplier: 3,
        passive: false,
        auth: None,
        kernel_watch: false,
    }
}

/// What a peer with the same intervals says in a state.
pub(crate) fn says(state: State) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        independent: false,
        authenticated: false,
        demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator: if state == State::Down { 0 } else { OURS },
        desired_min_tx_us: if state == State::Up {
            10_000
        } else {
            1_000_000
        },
        required_min_rx_us: 10_000,
        required_min_echo_rx_us: 0,
    }
}

pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) now: MonoNs,
    /// Jitter: 0 = none.
    pub(crate) random: u32,
}

impl Rig {
    pub(crate) fn new(config: SessionConfig) -> Self {
        let now = MonoNs(1_000_000_000_000);
        Self {
            session: Session::new(config, now, 0),
            now,
            random: 0,
        }
    }

    /// One that came up with the peer of [`says`], and has confirmed its intervals.
    pub(crate) fn up(config: SessionConfig) -> Self {
        let mut rig = Self::new(config);
        rig.hear(says(State::Down));
        rig.hear(says(State::Up));
        rig.hear(Control {
            is_final: true,
            ..says(State::Up)
        });
        assert_eq!(rig.state(), State::Up);
        rig
    }

    pub(crate) fn state(&self) -> State {
        self.session.status().state
    }

    /// Lets time pass without serving timers.
    pub(crate) fn wait(&mut self, span: Nanos) {
        self.now = self.now.after(span);
    }

    pub(crate) fn hear(&mut self, control: Control) -> Vec<Action> {
        self.feed(Input::Packet {
            payload: Payload::plain(&control),
            received_at: self.now,
        })
    }

    pub(crate) fn feed(&mut self, input: Input) -> Vec<Action> {
        self.session.handle(input, self.now, self.random);
        self.actions()
    }

    /// Lets the next timer expire.
    pub(crate) fn expire(&mut self) -> Vec<Action> {
        let due = self.session.poll_timeout().expect("a timer is set");
        self.now = self.now.max(due);
        self.session.handle_timeout(self.now, self.random);
        self.actions()
    }

    /// Serves the timers up to `end`: the packets sent, each with its time.
    pub(crate) fn run(&mut self, end: MonoNs) -> Vec<(MonoNs, Control)> {
        let mut packets = Vec::new();
        while self.session.poll_timeout().is_some_and(|due| due <= end) {
            let actions = self.expire();
            packets.extend(
                sent(&actions)
                    .into_iter()
                    .map(|control| (self.now, control)),
            );
        }
        self.now = end;
        packets
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.session.poll_action()).collect()
    }
}

pub(crate) fn sent(actions: &[Action]) -> Vec<Control> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Transmit(payload) => Some(
                bfd::parse(payload.as_slice())
                    .expect("what is sent is valid")
                    .0,
            ),
            _ => None,
        })
        .collect()
}

pub(crate) fn changes(actions: &[Action]) -> Vec<Change> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Report(change) => Some(change.clone()),
            _ => None,
        })
        .collect()
}
