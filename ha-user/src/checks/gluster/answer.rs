//! What `gluster --xml` prints.

use std::collections::HashMap;

use roxmltree::{Document, Node};

use crate::checks::words::clean;

/// An answer of glusterd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Of an error, what it says.
    error: Option<String>,
    pub(super) volumes: Vec<Fields>,
    nodes: Vec<Fields>,
    pub(super) bricks: Vec<Fields>,
    uuid: Option<String>,
}

/// The text of an element's children, by their names.
pub(super) type Fields = HashMap<String, String>;

/// A brick, by its node and path.
pub(super) type Brick = (String, String);

impl Answer {
    pub(super) fn read(printed: &str) -> Result<Self, String> {
        let document = Document::parse(printed)
            .map_err(|_| format!("gluster answers no XML: {}", clean(printed)))?;
        let text = |name| {
            let found = document.descendants().find(|node| node.has_tag_name(name));
            found.and_then(|node| node.text()).map(str::to_owned)
        };
        let all = |name| -> Vec<Fields> {
            let found = document.descendants();
            found
                .filter(|node| node.has_tag_name(name))
                .map(fields)
                .collect()
        };
        let failed = text("opRet").as_deref() != Some("0");
        Ok(Self {
            error: failed.then(|| text("opErrstr").unwrap_or_else(|| "no reason given".to_owned())),
            volumes: all("volume"),
            nodes: all("node"),
            bricks: all("brick"),
            uuid: text("uuid"),
        })
    }

    /// What glusterd refuses, in words.
    pub(super) fn refused(&self) -> Result<(), String> {
        match &self.error {
            None => Ok(()),
            Some(error) => Err(format!("glusterd answers: {}", clean(error))),
        }
    }

    /// Whether another question must be waited for.
    pub(super) fn is_locked(&self) -> bool {
        let locked = |error: &String| {
            error.contains("Another transaction") || error.contains("Locking failed")
        };
        self.error.as_ref().is_some_and(locked)
    }

    /// Of `system:: uuid get`: this node.
    pub(super) fn node(&self) -> Result<String, String> {
        self.refused()?;
        let none = || "glusterd does not say who it is".to_owned();
        self.uuid.clone().ok_or_else(none)
    }

    /// Of `volume status`: the bricks that are served, with their processes.
    pub(super) fn online(&self) -> Result<HashMap<Brick, Option<i32>>, String> {
        self.refused()?;
        let text = |node: &Fields, name: &str| node.get(name).cloned().unwrap_or_default();
        let online = self.nodes.iter().filter(|node| text(node, "status") == "1");
        Ok(online
            .map(|node| {
                let brick = (text(node, "peerid"), text(node, "path"));
                (brick, text(node, "pid").parse().ok())
            })
            .collect())
    }
}

fn fields(node: Node<'_, '_>) -> Fields {
    node.children()
        .filter(Node::is_element)
        .map(|child| {
            let text = child.text().unwrap_or_default();
            (child.tag_name().name().to_owned(), text.to_owned())
        })
        .collect()
}
