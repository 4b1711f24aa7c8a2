//! How the other nodes hear of a group: over the link.

use ha_core::plan::GroupWord;

use crate::link::{Link, To, message};

/// The way to the conductors of the same groups on the other nodes.
pub trait Peers: Send + Sync {
    /// Tells a node how a group stands here, or all of them; it does not wait.
    fn tell(&self, to: Option<&str>, group: &str, word: &GroupWord);

    /// The nodes that are there and have a group, as far as that is known without a word of theirs.
    fn members(&self, group: &str) -> Vec<String> {
        let _ = group;
        Vec::new()
    }

    /// The link by which roles reach each other.
    fn link(&self) -> Option<Link> {
        None
    }
}

impl Peers for Link {
    fn tell(&self, to: Option<&str>, group: &str, word: &GroupWord) {
        let to = to.map_or(To::All, |node| To::Node(node.to_owned()));
        let word = message::GroupWord::of(group, word);
        // Whether there is a way is seen by what is heard.
        let _ = self.send(&to, &message::Message::Group(Box::new(word)));
    }

    fn members(&self, group: &str) -> Vec<String> {
        Self::members(self, group)
    }

    fn link(&self) -> Option<Link> {
        Some(self.clone())
    }
}
