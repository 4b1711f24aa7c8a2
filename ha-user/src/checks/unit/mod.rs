//! `kind = "unit"`: what systemd says of a unit, asked and heard over D-Bus.

#[cfg(test)]
mod tests;

use ha_core::check::Observation;

use super::{
    probe::{Pending, Probe},
    words::clean,
};
use crate::{
    config::Unit,
    systemd::{Bus, News, State},
};

/// See [`Unit`].
pub(super) struct UnitProbe {
    unit: String,
    /// Where the bus is, if not where it is for everybody.
    address: Option<String>,
    /// `None`: to be connected to.
    bus: Option<Bus>,
    /// What is wrong, where a probe has found it before its signal was heard. systemd's word is as good in an answer
    /// as in a signal, so it is told as that would be.
    found: Option<String>,
    /// Whether that it does not work is the last that was told.
    told: bool,
}

impl UnitProbe {
    pub(super) fn new(config: &Unit) -> Self {
        Self {
            unit: config.unit.clone(),
            address: None,
            bus: None,
            found: None,
            told: false,
        }
    }

    /// The state at present, by the connection that there is, or a new one where that broke.
    async fn look(&mut self) -> Result<String, String> {
        if let Some(mut bus) = self.bus.take()
            && let Ok(state) = bus.state().await
        {
            self.bus = Some(bus);
            return self.judge(&state);
        }
        let failed = |error: zbus::Error| format!("D-Bus: {}", clean(&error.to_string()));
        let mut bus = Bus::connect(self.address.as_deref(), &self.unit)
            .await
            .map_err(failed)?;
        let state = bus.state().await.map_err(failed)?;
        self.bus = Some(bus);
        self.judge(&state)
    }

    /// What an answer means.
    fn judge(&mut self, state: &State) -> Result<String, String> {
        let result = state.judge(&self.unit);
        match &result {
            Ok(_) => {
                self.found = None;
                self.told = false;
            }
            Err(why) if !self.told => self.found = Some(why.clone()),
            Err(_) => {}
        }
        result
    }
}

impl Probe for UnitProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            if let Some(why) = self.found.take() {
                self.told = true;
                return Observation::Failed(why);
            }
            let Some(bus) = &mut self.bus else {
                return std::future::pending().await;
            };
            match bus.news().await {
                News::State(state) => match state.judge(&self.unit) {
                    Ok(_) => {
                        self.told = false;
                        Observation::Changed
                    }
                    Err(why) => {
                        self.told = true;
                        Observation::Failed(why)
                    }
                },
                // That says nothing of the unit.
                News::Lost => {
                    self.bus = None;
                    Observation::Changed
                }
            }
        })
    }
}
