//! What is known of a check at present.

use ha_core::check::CheckStatus;

/// A check, as its task sees it.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// `None` before its task began.
    pub status: Option<CheckStatus>,
    /// The last lines that its probe printed.
    pub output: Vec<String>,
}
