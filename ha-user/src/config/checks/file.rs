//! `kind = "file"`: a file that must be there, or must not, or must say something.

use std::{ops::RangeInclusive, path::PathBuf};

use super::{CheckKind, Form};
use crate::config::{parse::path, reader::Section};

/// Keys of `kind = "file"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is expected of it.
    pub expect: FileExpect,
}

/// What is expected of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileExpect {
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// It is there, and one of [`FILE_NUMBERS`] is all that stands in it; that many times weights per unit count.
    Number,
    /// It is there, and this is somewhere in it.
    Contains(String),
    /// It is there, and this is all that stands in it, without the white space around.
    Content(String),
}

/// `expect`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Present,
    Absent,
    Number,
}

/// From the highest priority to the lowest, and back.
pub const FILE_NUMBERS: RangeInclusive<i32> = -254..=254;

pub(super) const FORM: Form = Form {
    name: "file",
    keys: &["path", "expect", "contains", "content"],
    parse,
};

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let path = section.require("path", path(section, "path"), "\"/run/web/ready\"");
    let expect = section.choice(
        "expect",
        &[
            ("present", Expect::Present),
            ("absent", Expect::Absent),
            ("number", Expect::Number),
        ],
    );
    let expect = expect.map_or(Expect::Present, |expect| expect.value);
    let (contains, content) = (section.string("contains"), section.string("content"));
    let text = contains.as_ref().map(|text| ("contains", text));
    let text = text.or(content.as_ref().map(|text| ("content", text)));
    let wrong = match text {
        Some((key, text)) if expect == Expect::Absent => {
            Some((key, text.offset, "says nothing of a file that is absent"))
        }
        Some((key, text)) if expect == Expect::Number => {
            Some((key, text.offset, "says nothing of a file that has a number"))
        }
        Some((_, text)) if contains.is_some() && content.is_some() => {
            Some(("contains", text.offset, "is there beside `content`"))
        }
        Some(("contains", text)) if text.value.is_empty() => {
            Some(("contains", text.offset, "is empty: it is in every file"))
        }
        _ => None,
    };
    if let Some((key, offset, wrong)) = wrong {
        section.fail(offset, key, wrong, "remove one of the two, or this key");
        return None;
    }
    let path = path?;
    if path.file_name().is_none() {
        let offset = section.offset_of("path").unwrap_or(section.offset);
        section.fail(
            offset,
            "path",
            "names no file",
            "write a path that ends with a name",
        );
        return None;
    }
    Some(CheckKind::File(WatchedFile {
        path,
        expect: match (contains, content) {
            (Some(text), _) => FileExpect::Contains(text.value),
            (None, Some(text)) => FileExpect::Content(text.value.trim().to_owned()),
            (None, None) => match expect {
                Expect::Present => FileExpect::Present,
                Expect::Absent => FileExpect::Absent,
                Expect::Number => FileExpect::Number,
            },
        },
    }))
}
