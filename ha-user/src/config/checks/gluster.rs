//! `kind = "gluster"`: a GlusterFS volume of which this node has bricks.

use super::{CheckKind, Form};
use crate::config::reader::Section;

/// Keys of `kind = "gluster"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gluster {
    /// The volume's name.
    pub volume: String,
}

pub(super) const FORM: Form = Form {
    name: "gluster",
    keys: &["volume"],
    parse,
};

/// Bytes of the longest name (`GD_VOLUME_NAME_MAX`).
const LONGEST: usize = 64;

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let volume = section.string("volume");
    if let Some(volume) = &volume {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = volume.value.as_str();
        let long = name.is_empty() || name.len() > LONGEST;
        // gluster takes "all" for every volume there is.
        if long || name.starts_with('-') || name == "all" || !name.chars().all(legal) {
            section.fail(
                volume.offset,
                "volume",
                format!("\"{name}\" cannot be the name of a volume"),
                "write it as `gluster volume list` shows it",
            );
            return None;
        }
    }
    Some(CheckKind::Gluster(Gluster {
        volume: section.require("volume", volume, "\"gv0\"")?.value,
    }))
}
