//! `kind = "unit"`: what systemd says of a unit, asked and heard over D-Bus.

mod bus;
mod state;
#[cfg(test)]
mod tests;

use ha_core::check::Observation;

use self::bus::{Bus, News};
use super::{
    probe::{Pending, Probe},
    words::clean,
};
use crate::config::Unit;

/// See [`Unit`].
pub(super) struct UnitProbe {
    unit: String,
    /// Where the bus is, if not where it is for everybody.
    address: Option<String>,
    /// `None`: to be connected to.
    bus: Option<Bus>,
}

impl UnitProbe {
    pub(super) fn new(config: &Unit) -> Self {
        Self {
            unit: config.unit.clone(),
            address: None,
            bus: None,
        }
    }

    /// The state at present, by the connection that there is, or a new one where that broke.
    async fn look(&mut self) -> Result<String, String> {
        if let Some(mut bus) = self.bus.take()
            && let Ok(state) = bus.state().await
        {
            self.bus = Some(bus);
            return state.judge(&self.unit);
        }
        let failed = |error: zbus::Error| format!("D-Bus: {}", clean(&error.to_string()));
        let mut bus = Bus::connect(self.address.as_deref(), &self.unit)
            .await
            .map_err(failed)?;
        let state = bus.state().await.map_err(failed)?;
        self.bus = Some(bus);
        state.judge(&self.unit)
    }
}

impl Probe for UnitProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            let Some(bus) = &mut self.bus else {
                return std::future::pending().await;
            };
            match bus.news().await {
                News::State(state) => match state.judge(&self.unit) {
                    Ok(_) => Observation::Changed,
                    Err(why) => Observation::Failed(why),
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
