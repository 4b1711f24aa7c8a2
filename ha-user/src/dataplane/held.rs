//! A link that holds a program at its place, pinned or not.

use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};

use super::{DataplaneError, pins};

/// A link. Closing the descriptor of an unpinned one takes its program off the interface.
pub(super) struct Held {
    _link: FdLink,
    pin: Option<PathBuf>,
}

impl Held {
    /// A link that was found pinned.
    pub(super) const fn adopted(link: FdLink, pin: PathBuf) -> Self {
        Self {
            _link: link,
            pin: Some(pin),
        }
    }

    /// Pins a new link, if anything is pinned.
    pub(super) fn new(link: FdLink, pin: Option<PathBuf>) -> Result<Self, DataplaneError> {
        let link = match &pin {
            Some(path) => link
                .pin(path)
                .map_err(|error| {
                    DataplaneError::kernel(format!("pinning {}", path.display()), error)
                })?
                .into(),
            None => link,
        };
        Ok(Self { _link: link, pin })
    }

    /// Takes the program off.
    pub(super) fn release(self) -> Result<(), DataplaneError> {
        match &self.pin {
            Some(pin) => pins::remove_file(pin),
            None => Ok(()),
        }
    }
}

/// A link that an earlier daemon pinned.
pub(super) fn open(path: &Path) -> Result<FdLink, DataplaneError> {
    PinnedLink::from_pin(path)
        .map(FdLink::from)
        .map_err(|error| DataplaneError::kernel(format!("opening {}", path.display()), error))
}
