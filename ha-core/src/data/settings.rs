//! A server's variables, as it shows them.

use alloc::{string::String, vec::Vec};

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// What a variable is set to; `None`: the server does not have it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        let found = self.0.iter().find(named);
        found.map(|(_, value)| value.as_str())
    }
}

impl FromIterator<(String, String)> for Settings {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
impl Settings {
    /// Those of a good server, but for some.
    pub(super) fn but_for(changes: &[(&str, &str)], good: &[(&str, &str)]) -> Self {
        let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
        let kept = good.iter().filter(|(name, _)| !is_changed(name));
        kept.chain(changes)
            .map(|&(name, value)| (name.into(), value.into()))
            .collect()
    }
}
