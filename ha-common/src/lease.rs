//! Leases granted by the peer's kernel: who may act for an instance, decided from plain words
//! (docs/architecture.md, "Leases").
//!
//! The Active node's *echo* asks; the peer's kernel answers by itself, and so promises not to act before a
//! time. XDP and the simulator decide with the same functions.

mod round_trips;
mod vigil;

pub use round_trips::RoundTrips;
pub use vigil::{Look, Vigil};

use crate::units::{MonoNs, Nanos};

/// UDP port of echoes and their answers, source and destination: "hA".
pub const PORT: u16 = 0x6841;

/// A promise outlasts its lease by this much at least.
const LEAST_MARGIN: Nanos = Nanos::from_micros(200);

/// By how much a promise outlasts the lease that it grants.
///
/// The two are counted by clocks that differ in rate. And a holder that hears nobody renews its lease itself, to
/// what its last echo would give: together with a candidate's announcements this outlasts one echo that was lost,
/// an interval after the one that was granted. By more of them a holder may outlast the promise.
#[must_use]
pub const fn margin(lease: Nanos) -> Nanos {
    let third = Nanos(third(lease.0));
    if third.0 > LEAST_MARGIN.0 {
        third
    } else {
        LEAST_MARGIN
    }
}

/// A third, rounded down: of a number of 32 bits by a multiplication, since a division is what takes longest of all
/// that XDP does with a promise.
const fn third(number: u64) -> u64 {
    if number <= u32::MAX as u64 {
        // (2^33 + 1) / 3: what it is too much comes to less than a third.
        (number * 0xaaaa_aaab) >> 33
    } else {
        number / 3
    }
}

/// Per (instance, peer), in one word that both sides change by compare-and-exchange: until when this node
/// has promised that peer not to act, or that it acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Promise(u64);

impl Promise {
    /// This node competes for the instance, or holds it: nothing is granted.
    pub const ACTING: Self = Self(1 << 63);

    /// Not to act before a time.
    #[must_use]
    pub const fn until(time: MonoNs) -> Self {
        Self(time.0 & !Self::ACTING.0)
    }

    /// From the word that the map holds.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As the word that the map holds.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// Whether this node acts.
    #[must_use]
    pub const fn is_acting(self) -> bool {
        self.0 & Self::ACTING.0 != 0
    }

    /// When this node may act; the clock's origin if it does.
    #[must_use]
    pub const fn ends(self) -> MonoNs {
        if self.is_acting() {
            MonoNs::ZERO
        } else {
            MonoNs(self.0)
        }
    }

    /// What becomes of it by a grant at `now` for a lease of `lease`. Always another word, so that a
    /// compare-and-exchange of anybody who read it before fails.
    #[must_use]
    pub const fn granted(self, now: MonoNs, lease: Nanos) -> Self {
        let until = now.after(lease).after(margin(lease));
        let least = self.ends().0 + 1;
        Self::until(if until.0 > least {
            until
        } else {
            MonoNs(least)
        })
    }
}

/// How much earlier than the one before it an echo may come, compared with when both were sent.
const MOST_EARLY: Nanos = Nanos::from_secs(1);

/// What an echo is to the last one that was answered of the same boot, by their send times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It comes after it.
    Next,
    /// It came twice, or was overtaken.
    Old,
    /// One of the two is not what it says: without the challenge it is a stranger's.
    Strange,
}

/// Judges an echo sent at `sent` for leases of `lease`, `passed` after one that was sent at `last`.
///
/// Without a key anybody on the link can forge an echo, and one from the future would have all others refused: send
/// times rise no faster than this node's clock, but for what it may be slow; and an echo that is older by a lease
/// asks for nothing any more, so that it is rather the other one that was forged.
#[must_use]
#[inline(always)]
pub const fn order(last: MonoNs, sent: MonoNs, passed: Nanos, lease: Nanos) -> Order {
    let rise = sent.since(last);
    if rise.0 == 0 {
        return if last.since(sent).0 > lease.0 {
            Order::Strange
        } else {
            Order::Old
        };
    }
    let most = passed.plus(Nanos(passed.0 / 4)).plus(MOST_EARLY);
    if rise.0 > most.0 {
        Order::Strange
    } else {
        Order::Next
    }
}

/// What an echo asks for an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ask {
    /// Nothing: the sender only shows that it lives.
    #[default]
    Nothing = 0,
    /// The sender holds the instance, and wants to go on.
    Hold = 1,
    /// The sender wants to take it over.
    Candidate = 2,
    /// The sender lets go: what it was promised before is void.
    Release = 3,
    /// The sender held the instance until it was held up, and asks whether it may go on: it takes the instance
    /// from nobody.
    Resume = 4,
}

impl Ask {
    /// `None` for a number of another version.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Nothing,
            1 => Self::Hold,
            2 => Self::Candidate,
            3 => Self::Release,
            4 => Self::Resume,
            _ => return None,
        })
    }

    /// Whether a peer that was promised what it asked, and asks this, keeps another one from what that asks: a
    /// candidate is not granted where somebody holds, nor who asks to go on where anybody is granted anything.
    /// A holder's request is older than either.
    #[must_use]
    #[inline(always)]
    pub const fn bars(self, other: Self) -> bool {
        other.barred_by() >> self as u32 & 1 != 0
    }

    /// What [bars](Self::bars) this, a bit for each number.
    #[must_use]
    #[inline(always)]
    pub const fn barred_by(self) -> u32 {
        match self {
            Self::Nothing | Self::Hold | Self::Release => 0,
            Self::Candidate => 1 << Self::Hold as u32 | 1 << Self::Resume as u32,
            Self::Resume => {
                1 << Self::Hold as u32 | 1 << Self::Candidate as u32 | 1 << Self::Resume as u32
            }
        }
    }
}

/// What this node is for an instance, as its kernel knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It does not act.
    #[default]
    Bystander = 0,
    /// It acts and announces that it wants to take over; its gate is closed.
    Candidate = 1,
    /// It acts, and its gate is open as long as its leases last.
    Active = 2,
    /// It acts, and asks whether it may go on after it was held up: its gate is closed, and it yields to
    /// holders and candidates.
    Lapsed = 3,
}

impl Standing {
    /// From the word that the map holds; what is none counts as the state that grants least.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        match word {
            0 => Self::Bystander,
            1 => Self::Candidate,
            3 => Self::Lapsed,
            _ => Self::Active,
        }
    }

    /// As the word that the map holds.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self as u64
    }
}

/// Who goes first where two compete: the newer data, then the higher priority; at a tie the greater
/// address of the instance's adverts, which both sides know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// How far this node's data is; 0 where no data decides.
    pub position: u32,
    /// VRRP priority.
    pub priority: u8,
}

impl Rank {
    /// Whether a peer with the rank `theirs` goes first.
    #[must_use]
    pub const fn is_below(self, theirs: Self, their_address_is_greater: bool) -> bool {
        if self.position != theirs.position {
            return self.position < theirs.position;
        }
        if self.priority != theirs.priority {
            return self.priority < theirs.priority;
        }
        their_address_is_greater
    }

    /// As the word that the map holds.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        (self.priority as u64) << 32 | self.position as u64
    }

    /// From the word that the map holds.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let [_, _, _, priority, a, b, c, d] = word.to_be_bytes();
        Self {
            position: u32::from_be_bytes([a, b, c, d]),
            priority,
        }
    }
}

/// What a peer's request meets at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// The word for that peer.
    pub acting: bool,
    /// What this node is.
    pub standing: Standing,
    /// Active: whether this node's gate is open now; candidate: whether it announced itself within the
    /// longest lease. A daemon that died as a candidate must not refuse for ever.
    pub alive: bool,
    /// Whether this node's lease from that peer is self-renewed.
    pub self_renewed: bool,
    /// Whether that peer goes first by rank.
    pub outranked: bool,
    /// Whether another peer has this node's promise, and what it asks [bars](Ask::bars) this request.
    pub promised_elsewhere: bool,
}

impl Situation {
    /// Of who does not act: of the rest only `promised_elsewhere` counts then.
    pub const AT_REST: Self = Self {
        acting: false,
        standing: Standing::Bystander,
        alive: false,
        self_renewed: false,
        outranked: false,
        promised_elsewhere: false,
    };
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Judgement {
    /// It is granted.
    Grant,
    /// This node's gate is closed for good (its epoch superseded), *then* it no longer acts and the
    /// request is granted.
    Yield,
    /// It is refused, and the peer is told.
    Refuse,
}

/// Judges [`Ask::Hold`], [`Ask::Candidate`] and [`Ask::Resume`].
///
/// - Who does not act grants; but no candidate while another peer holds the instance.
/// - A holder's request beats a candidate's; of two candidates the rank decides.
/// - An Active node whose gate is closed no longer acts for anybody, nor does a candidate that fell silent:
///   it yields. So does one that acts and is neither, on its way in or out: its gate is closed.
/// - Who was held up beyond its lease has not heard what became of the instance meanwhile: whoever acts refuses
///   it, and it yields to whoever asks, but for another one of its kind.
/// - One that renews its lease itself believed the peer dead: it yields to a candidate, which has heard of
///   nobody, and by rank to another holder (after a network was split).
#[must_use]
pub const fn judge(ask: Ask, at: &Situation) -> Judgement {
    let hold = matches!(ask, Ask::Hold);
    if !at.acting {
        return if at.promised_elsewhere && !hold {
            Judgement::Refuse
        } else {
            Judgement::Grant
        };
    }
    let yields = match at.standing {
        _ if matches!(ask, Ask::Resume) => false,
        Standing::Bystander | Standing::Lapsed => true,
        _ if !at.alive => true,
        Standing::Candidate => hold || at.outranked,
        Standing::Active => at.self_renewed && (!hold || at.outranked),
    };
    if yields {
        Judgement::Yield
    } else {
        Judgement::Refuse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Situation = Situation::AT_REST;
    const CANDIDATE: Situation = Situation {
        acting: true,
        standing: Standing::Candidate,
        alive: true,
        ..FREE
    };
    const ACTIVE: Situation = Situation {
        acting: true,
        standing: Standing::Active,
        alive: true,
        ..FREE
    };

    #[test]
    fn requests() {
        use Judgement::{Grant, Refuse, Yield};
        let outranked = |at| Situation {
            outranked: true,
            ..at
        };
        let alone = Situation {
            self_renewed: true,
            ..ACTIVE
        };
        let closed = Situation {
            alive: false,
            ..ACTIVE
        };
        let silent = Situation {
            alive: false,
            ..CANDIDATE
        };
        let leaving = Situation {
            standing: Standing::Bystander,
            ..CANDIDATE
        };
        let promised = Situation {
            promised_elsewhere: true,
            ..FREE
        };
        let lapsed = Situation {
            standing: Standing::Lapsed,
            ..CANDIDATE
        };
        for (at, hold, candidate, resume) in [
            (FREE, Grant, Grant, Grant),
            (promised, Grant, Refuse, Refuse),
            (CANDIDATE, Yield, Refuse, Refuse),
            (outranked(CANDIDATE), Yield, Yield, Refuse),
            (ACTIVE, Refuse, Refuse, Refuse),
            (outranked(ACTIVE), Refuse, Refuse, Refuse),
            (alone, Refuse, Yield, Refuse),
            (outranked(alone), Yield, Yield, Refuse),
            (closed, Yield, Yield, Refuse),
            (silent, Yield, Yield, Refuse),
            (leaving, Yield, Yield, Refuse),
            (lapsed, Yield, Yield, Refuse),
        ] {
            assert_eq!(judge(Ask::Hold, &at), hold, "{at:?}");
            assert_eq!(judge(Ask::Candidate, &at), candidate, "{at:?}");
            assert_eq!(judge(Ask::Resume, &at), resume, "{at:?}");
        }
    }

    #[test]
    fn who_does_not_act_is_judged_by_its_promises_alone() {
        for promised_elsewhere in [false, true] {
            let rest = Situation {
                promised_elsewhere,
                ..FREE
            };
            for standing in [
                Standing::Bystander,
                Standing::Candidate,
                Standing::Active,
                Standing::Lapsed,
            ] {
                for bits in 0..8_u8 {
                    let at = Situation {
                        standing,
                        alive: bits & 1 != 0,
                        self_renewed: bits & 2 != 0,
                        outranked: bits & 4 != 0,
                        ..rest
                    };
                    for ask in [Ask::Hold, Ask::Candidate, Ask::Resume] {
                        assert_eq!(judge(ask, &at), judge(ask, &rest), "{at:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_third_node_grants_one_of_two() {
        use Ask::{Candidate, Hold, Nothing, Release, Resume};
        for asks in [Hold, Candidate, Resume] {
            assert!(!asks.bars(Hold) && asks.bars(Resume), "{asks:?}");
        }
        assert!(Hold.bars(Candidate) && Resume.bars(Candidate));
        // Of two candidates the rank decides, between themselves.
        assert!(!Candidate.bars(Candidate));
        for asks in [Nothing, Release] {
            assert!(!asks.bars(Candidate) && !asks.bars(Resume), "{asks:?}");
        }
    }

    #[test]
    fn a_promise_outlasts_the_lease_and_always_changes() {
        let lease = Nanos::from_millis(3);
        let now = MonoNs(5_000_000);
        let first = Promise::default().granted(now, lease);
        assert_eq!(first.ends(), MonoNs(9_000_000));
        let shorter = first.granted(now, Nanos::from_millis(1));
        assert_eq!(shorter.ends(), MonoNs(9_000_001));
        assert_eq!(margin(Nanos::from_micros(500)), Nanos::from_micros(200));
        assert!(!first.is_acting() && Promise::ACTING.is_acting());
    }

    #[test]
    fn a_third_is_rounded_down() {
        let most = u64::from(u32::MAX);
        for base in [0, 1_000, 8_999_998, most / 2, most - 4, u64::MAX - 8] {
            for number in base..base + 8 {
                assert_eq!(third(number), number / 3, "{number}");
            }
        }
    }

    #[test]
    fn send_times_rise_as_time_passes() {
        let lease = Nanos::from_millis(9);
        let last = MonoNs(10_000_000_000);
        let order = |sent, passed| order(last, sent, passed, lease);
        let hour = Nanos::from_secs(3_600);
        assert_eq!(order(last.after(Nanos(1)), Nanos::ZERO), Order::Next);
        assert_eq!(order(last.after(hour), hour), Order::Next);
        assert_eq!(order(last.after(hour), Nanos::ZERO), Order::Strange);
        assert_eq!(order(MonoNs(u64::MAX), hour), Order::Strange);
        assert_eq!(order(last, hour), Order::Old);
        assert_eq!(order(last.before(lease), hour), Order::Old);
        assert_eq!(
            order(last.before(lease).before(Nanos(1)), hour),
            Order::Strange
        );
    }

    #[test]
    fn rank_is_data_then_priority_then_address() {
        let rank = |position, priority| Rank { position, priority };
        assert!(rank(1, 200).is_below(rank(2, 1), false));
        assert!(!rank(2, 1).is_below(rank(1, 200), true));
        assert!(rank(1, 100).is_below(rank(1, 101), false));
        assert!(rank(1, 100).is_below(rank(1, 100), true));
        assert!(!rank(1, 100).is_below(rank(1, 100), false));
        for rank in [rank(u32::MAX, 1), rank(0, 255)] {
            assert_eq!(Rank::from_word(rank.to_word()), rank);
        }
    }

    #[test]
    fn numbers_of_another_version_are_no_requests() {
        for number in 0..=u8::MAX {
            let ask = Ask::from_u8(number);
            assert!(ask.is_none_or(|ask| ask as u8 == number));
            assert_eq!(ask.is_some(), number < 5);
        }
        assert_eq!(Standing::from_word(77), Standing::Active);
    }
}
