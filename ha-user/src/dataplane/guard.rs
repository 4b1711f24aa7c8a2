//! The guard of the host's other interfaces, which no instance or channel names: they answer for no VIP, and
//! packets to one meet its gate.
//!
//! It is at tc, so that no driver resets its rings for it. Attaching and taking off wait for the kernel's RCU, some
//! ten milliseconds: [`Guards`] are for a thread of their own.
//!
//! Before Linux 6.6 (clsact) several daemons on one host share the filters' place there: the last one guards.

use std::{collections::BTreeMap, path::PathBuf};

use aya::programs::SchedClassifier;

use super::{
    Dataplane, DataplaneError,
    attach::Place,
    clsact,
    filter::{self, Filter, Side},
    pins::{self, Pins},
};

const SIDES: [Side; 2] = [Side::GuardIngress, Side::GuardEgress];

/// The guards of other interfaces.
///
/// Dropping them leaves them in place.
pub struct Guards {
    ingress: SchedClassifier,
    egress: SchedClassifier,
    pins: Pins,
    tcx: bool,
    guarded: BTreeMap<u32, [Filter; 2]>,
}

impl Dataplane {
    /// The guards, with the programs and maps of this dataplane; `None` where nothing can be pinned.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn guards(&mut self) -> Result<Option<Guards>, DataplaneError> {
        let Some(pins) = &self.pins else {
            return Ok(None);
        };
        let programs = &mut self.loaded.programs;
        let ingress = second(programs.guard()?, pins.scratch("guard"))?;
        let egress = second(programs.egress()?, pins.scratch("guard-egress"))?;
        Ok(Some(Guards {
            ingress,
            egress,
            pins: pins.clone(),
            tcx: self.modes.tcx,
            guarded: BTreeMap::new(),
        }))
    }
}

/// A second handle of a program: it is pinned for a moment.
fn second(program: &mut SchedClassifier, pin: PathBuf) -> Result<SchedClassifier, DataplaneError> {
    pins::remove_file(&pin)?;
    program
        .pin(&pin)
        .map_err(|error| DataplaneError::kernel(format!("pinning {}", pin.display()), error))?;
    let second = SchedClassifier::from_pin(&pin)
        .map_err(|error| DataplaneError::kernel(format!("opening {}", pin.display()), error));
    pins::remove_file(&pin)?;
    second
}

impl Guards {
    /// Guards an interface, or puts the programs where an earlier daemon's are.
    ///
    /// # Errors
    ///
    /// The kernel refuses. Then nothing is left attached.
    pub fn guard(&mut self, name: &str, ifindex: u32) -> Result<(), DataplaneError> {
        if self.guarded.contains_key(&ifindex) {
            return Ok(());
        }
        let place = Place {
            pins: Some(&self.pins),
            name,
            ifindex,
        };
        let [at_ingress, at_egress] = SIDES;
        let (ingress, _) = filter::attach(&mut self.ingress, place, self.tcx, at_ingress)?;
        match filter::attach(&mut self.egress, place, self.tcx, at_egress) {
            Ok((egress, _)) => {
                self.guarded.insert(ifindex, [ingress, egress]);
                Ok(())
            }
            Err(error) => {
                ingress.release()?;
                Err(error)
            }
        }
    }

    /// No longer guards an interface, which may be gone by now.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn unguard(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let filters = self.guarded.remove(&ifindex).into_iter().flatten();
        filters.map(Filter::release).fold(Ok(()), Result::and)
    }

    /// The interfaces that are guarded.
    pub fn guarded(&self) -> impl Iterator<Item = u32> {
        self.guarded.keys().copied()
    }

    /// Takes off what an earlier daemon left on interfaces that are not guarded now.
    ///
    /// # Errors
    ///
    /// The first failure, after everything was tried.
    pub fn forget_leftovers<'a>(
        &self,
        interfaces: impl Iterator<Item = &'a str>,
    ) -> Result<(), DataplaneError> {
        let stale = |ifindex| !self.guarded.contains_key(&ifindex);
        self.pins
            .remove_guards_if(stale)
            .and(remove_filters(interfaces))
    }

    /// Takes all of them off.
    ///
    /// # Errors
    ///
    /// The first failure, after everything was tried.
    pub fn release(mut self) -> Result<(), DataplaneError> {
        let mut result = Ok(());
        for ifindex in self.guarded().collect::<Vec<_>>() {
            result = result.and(self.unguard(ifindex));
        }
        result
    }
}

/// Removes the guards' filters (where there is no tcx) from interfaces.
///
/// # Errors
///
/// The first failure, after everything was tried.
pub(super) fn remove_filters<'a>(
    interfaces: impl Iterator<Item = &'a str>,
) -> Result<(), DataplaneError> {
    let mut result = Ok(());
    for interface in interfaces {
        for side in SIDES {
            result = result.and(clsact::remove(interface, side));
        }
    }
    result
}
