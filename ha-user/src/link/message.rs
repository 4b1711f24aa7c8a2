//! What two nodes say to each other: JSON within an encrypted frame.
//!
//! Two releases understand each other: what one does not know is a field that it ignores, one that is missing has its
//! default, and a word or a question of another kind is [`Message::Unknown`] or `Unknown` within it. What that does not
//! cover needs another [`super::VERSION`].

use serde::{Deserialize, Serialize};

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// Who speaks: the first message on each connection.
    Hello(Hello),
    /// How the node is. A newer one replaces an older one that was not sent yet.
    Report(NodeReport),
    /// How a group of the node is. A newer one of the same group replaces an older one that was not sent yet.
    Group(Box<GroupWord>),
    /// A question to a group's conductor.
    Ask(Ask),
    /// Its answer.
    Answer(Answer),
    /// A stream of bytes is asked for: the first message on a connection of its own, instead of [`Message::Hello`].
    Stream(StreamAsk),
    /// Something that a later release says.
    #[serde(other)]
    Unknown,
}

/// Who speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The node's name.
    pub node: String,
    /// This run of its daemon: another number after each start.
    pub boot: u64,
    /// The daemon's release.
    pub version: String,
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// The node's mode, as in its status.
    pub mode: String,
    /// The next report comes within this; 0 = it does not say.
    pub every_ms: u64,
    /// Its instances.
    pub instances: Vec<InstanceState>,
}

/// How one of its instances is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceState {
    /// The instance's name.
    pub name: String,
    /// Its group, if it is in one.
    pub group: Option<String>,
    /// `initialize`, `backup`, `promoting`, `active`, `demoting` or `fault`.
    pub state: String,
    /// The configured priority.
    pub priority: u8,
}

/// How a group of a node is, as its conductor says it ([`ha_core::plan::GroupWord`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupWord {
    /// The group's name.
    pub group: String,
    /// The greatest epoch that the node knows.
    pub epoch: u64,
    /// How it stands.
    pub stance: Stance,
    /// Its mode.
    pub mode: String,
    /// Whether it may be elected.
    pub eligible: bool,
    /// Why not.
    pub why: String,
    /// How far its data is.
    pub position: Option<Position>,
    /// Where its database can be followed.
    pub endpoint: Option<String>,
    /// Its data's history, as the state of its binary log.
    pub history: Option<String>,
    /// Asks to be counted as in sync.
    pub ask: Option<SyncAsk>,
    /// What it was granted counts no more.
    pub renounces: bool,
    /// Confirms the last ask of the node to which this goes.
    pub grant: Option<SyncGrant>,
    /// It would be promoted, and asks whether the node to which this goes has anything against it.
    pub wish: Option<Wish>,
    /// It has nothing against the last wish of the node to which this goes.
    pub consent: Option<SyncGrant>,
    /// Where its last epoch as primary ended.
    pub handover: Option<Handover>,
    /// It became primary since another node failed, and that one is to go into maintenance.
    pub alone_since: Option<u64>,
}

/// How a node stands in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// Its roles' state is not known, or half-way.
    Unsettled,
    /// Demoted.
    Standby,
    /// Being promoted.
    Promoting,
    /// Promoted.
    Primary,
    /// Being demoted.
    Demoting,
    /// It does not say, or a later release says something else.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How far data is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// More is better.
    pub rank: u64,
    /// As the system itself writes it.
    pub text: String,
}

/// A node would be promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// When it asked, by its own clock.
    pub asked_at: u64,
    /// In which epoch.
    pub epoch: u64,
    /// With which priority.
    pub priority: u8,
}

/// A standby asks to be counted as in sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncAsk {
    /// When, by its own clock: handed back.
    pub sent_at: u64,
    /// The epoch of the primary that it follows.
    pub epoch: u64,
}

/// The primary confirms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncGrant {
    /// [`SyncAsk::sent_at`].
    pub asked_at: u64,
    /// The primary's epoch.
    pub epoch: u64,
}

/// Where a node ended that handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handover {
    /// The epoch that ended.
    pub epoch: u64,
    /// Where.
    pub position: Option<Position>,
    /// Whether it was asked to.
    pub asked: bool,
}

/// A stream of bytes is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamAsk {
    /// The name of the node that asks.
    pub node: String,
    /// Whose role is to answer.
    pub group: String,
    /// The role, which says what is sent both ways.
    pub role: String,
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ask {
    /// Handed back by the answer.
    pub serial: u64,
    /// Whose conductor is to answer.
    pub group: String,
    /// What is asked.
    pub body: AskBody,
}

/// What is asked of a group's conductor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum AskBody {
    /// How it is; the asker's own word goes with it.
    Group(Box<GroupWord>),
    /// What a later release asks.
    #[default]
    #[serde(other)]
    Unknown,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// [`Ask::serial`].
    pub serial: u64,
    /// What is answered.
    pub body: AnswerBody,
}

/// What a group's conductor answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum AnswerBody {
    /// How it is.
    Group(Box<GroupWord>),
    /// It will not.
    Refused {
        /// Why not.
        #[serde(default)]
        why: String,
    },
    /// The question was not understood, or the answer is not.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What a newer message replaces an older one of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// [`Message::Report`].
    Report,
    /// [`Message::Group`] of this group.
    Group(String),
}

impl Message {
    /// What it is the latest state of; `None`: each one counts.
    pub(super) fn topic(&self) -> Option<Topic> {
        match self {
            Self::Report(_) => Some(Topic::Report),
            Self::Group(word) => Some(Topic::Group(word.group.clone())),
            Self::Hello(_) | Self::Ask(_) | Self::Answer(_) | Self::Stream(_) | Self::Unknown => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word() -> GroupWord {
        let position = Position {
            rank: 42,
            text: "0-1-42".to_owned(),
        };
        GroupWord {
            group: "db".to_owned(),
            epoch: u64::MAX,
            stance: Stance::Primary,
            position: Some(position.clone()),
            grant: Some(SyncGrant {
                asked_at: u64::MAX,
                epoch: 7,
            }),
            handover: Some(Handover {
                epoch: 6,
                position: Some(position),
                asked: true,
            }),
            ..GroupWord::default()
        }
    }

    #[test]
    fn every_kind_survives_the_wire() {
        for message in [
            Message::Hello(Hello {
                node: "n1".to_owned(),
                boot: u64::MAX,
                version: "0.1.0".to_owned(),
            }),
            Message::Report(NodeReport {
                mode: "active-standby".to_owned(),
                every_ms: 100,
                instances: vec![InstanceState::default()],
            }),
            Message::Group(Box::new(word())),
            Message::Ask(Ask {
                serial: 3,
                group: "db".to_owned(),
                body: AskBody::Group(Box::new(word())),
            }),
            Message::Stream(StreamAsk {
                node: "n1".to_owned(),
                group: "web".to_owned(),
                role: "rules".to_owned(),
            }),
            Message::Answer(Answer {
                serial: 3,
                body: AnswerBody::Group(Box::new(word())),
            }),
            Message::Answer(Answer {
                serial: 4,
                body: AnswerBody::Refused {
                    why: "it is demoting".to_owned(),
                },
            }),
        ] {
            let bytes = serde_json::to_vec(&message).unwrap();
            assert_eq!(
                serde_json::from_slice::<Message>(&bytes).unwrap(),
                message,
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    fn read(text: &str) -> Message {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn another_release_is_understood_as_far_as_it_goes() {
        assert_eq!(read(r#"{"kind":"song","text":"la"}"#), Message::Unknown);
        let Message::Group(word) = read(
            r#"{"kind":"group","group":"db","stance":"dancing","colour":"red","position":{"depth":3}}"#,
        ) else {
            panic!("no word");
        };
        assert_eq!((word.group.as_str(), word.stance), ("db", Stance::Unknown));
        assert_eq!(word.position, Some(Position::default()));
        assert!(!word.eligible && word.grant.is_none());
        let ask =
            read(r#"{"kind":"ask","serial":9,"group":"db","body":{"what":"tea","with":"milk"}}"#);
        let Message::Ask(ask) = ask else {
            panic!("{ask:?}");
        };
        assert_eq!((ask.serial, ask.body), (9, AskBody::Unknown));
        let Message::Answer(answer) = read(r#"{"kind":"answer","serial":9}"#) else {
            panic!("no answer");
        };
        assert_eq!(answer.body, AnswerBody::Unknown);
    }

    #[test]
    fn only_what_is_a_state_has_a_topic() {
        assert_eq!(
            Message::Group(Box::new(word())).topic(),
            Some(Topic::Group("db".to_owned()))
        );
        assert_eq!(
            Message::Report(NodeReport::default()).topic(),
            Some(Topic::Report)
        );
        assert_eq!(Message::Ask(Ask::default()).topic(), None);
        assert_eq!(Message::Answer(Answer::default()).topic(), None);
    }
}
