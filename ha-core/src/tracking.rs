//! What is tracked beside an instance's own interface, and what its condition does to the instance.

use alloc::string::String;
use core::fmt;

use crate::check::Health;

/// Something that is tracked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A check, by its name.
    Check(String),
    /// An interface, by its name; of a bond its usable slaves are counted.
    Interface(String),
    /// A file, by its path, with a number in it.
    File(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(name) => write!(f, "check {name}"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

/// The condition of something tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether it works.
    pub health: Health,
    /// How many slaves a bond can use, or the number in a file; else 0.
    pub count: i32,
    /// In words.
    pub why: String,
}
