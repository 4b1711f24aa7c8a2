//! What the states of a unit mean.

use std::collections::HashMap;

use zbus::OwnedVariant;

use crate::checks::words::clean;

/// What systemd says of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// `LoadState`.
    pub(crate) load: String,
    /// `ActiveState`.
    pub(crate) active: String,
    /// `SubState`.
    pub(crate) sub: String,
}

impl State {
    /// From the properties of a unit; `None` where they do not tell whether it is active.
    pub(crate) fn of(properties: &HashMap<String, OwnedVariant>) -> Option<Self> {
        let text = |name: &str| {
            let value = properties.get(name)?;
            <&str>::try_from(value).ok().map(clean)
        };
        Some(Self {
            load: text("LoadState").unwrap_or_default(),
            active: text("ActiveState")?,
            sub: text("SubState").unwrap_or_default(),
        })
    }

    /// Whether a unit does the same in both. Signals of a change need not say how it was loaded.
    pub(crate) fn does_as(&self, other: &Self) -> bool {
        self.active == other.active && self.sub == other.sub
    }

    /// In words what is right, or what is wrong.
    pub(crate) fn judge(&self, unit: &str) -> Result<String, String> {
        let Self { load, active, sub } = self;
        match active.as_str() {
            // A unit that reloads goes on working.
            "active" | "reloading" | "refreshing" => Ok(format!("{unit} is {active} ({sub})")),
            "activating" if sub.starts_with("auto-restart") => Err(format!(
                "{unit} ended, and systemd will start it again ({active}, {sub})"
            )),
            "activating" => Err(format!("{unit} is not ready yet ({active}, {sub})")),
            _ => Err(match load.as_str() {
                "not-found" => format!("there is no unit {unit}: see `unit`"),
                "masked" => format!("{unit} is masked: run: systemctl unmask {unit}"),
                "bad-setting" | "error" => {
                    format!("systemd cannot load {unit} ({load}): see: systemctl status {unit}")
                }
                _ => format!("{unit} is {active} ({sub})"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(load: &str, active: &str, sub: &str) -> Result<String, String> {
        let state = State {
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
        };
        state.judge("db.service")
    }

    #[test]
    fn what_works_is_right() {
        for (active, sub) in [
            ("active", "running"),
            ("active", "exited"),
            ("active", "mounted"),
            ("reloading", "reload"),
            ("refreshing", "refresh"),
        ] {
            assert_eq!(
                judged("loaded", active, sub),
                Ok(format!("db.service is {active} ({sub})"))
            );
        }
    }

    #[test]
    fn everything_else_is_wrong() {
        let said = |load, active, sub| judged(load, active, sub).unwrap_err();
        assert_eq!(
            said("loaded", "failed", "failed"),
            "db.service is failed (failed)"
        );
        assert_eq!(
            said("loaded", "deactivating", "stop-sigterm"),
            "db.service is deactivating (stop-sigterm)"
        );
        assert!(said("loaded", "activating", "start").contains("not ready yet"));
        assert!(said("loaded", "activating", "auto-restart").contains("ended"));
        assert!(said("loaded", "maintenance", "").contains("maintenance"));
        assert!(said("not-found", "inactive", "dead").contains("no unit db.service"));
        assert!(said("masked", "inactive", "dead").contains("masked"));
        assert!(said("bad-setting", "inactive", "dead").contains("bad-setting"));
    }

    #[test]
    fn a_unit_whose_file_is_gone_still_runs() {
        assert!(judged("not-found", "active", "running").is_ok());
    }
}
