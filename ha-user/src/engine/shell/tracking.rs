//! The interfaces that instances track beside their own: their conditions, told to the engine.

use std::collections::BTreeMap;

use ha_core::{
    Input,
    check::Health,
    tracking::{Reading, Source},
};

use super::Shell;
use crate::{engine::plan::Plan, net::links::Link};

/// What was told of each tracked interface; `None` = nothing yet.
#[derive(Default)]
pub(in crate::engine) struct TrackedInterfaces {
    /// With how many slaves a bond must be able to use.
    interfaces: BTreeMap<String, (u32, Option<Reading>)>,
}

impl TrackedInterfaces {
    /// Those of a plan; all of them are told anew.
    pub(in crate::engine) fn of(plan: &Plan) -> Self {
        let interface = |name: &str| {
            let min_up_slaves = plan.interface(name).min_up_slaves;
            (name.to_owned(), (min_up_slaves, None))
        };
        let names = plan.tracked_interfaces().into_iter();
        Self {
            interfaces: names.map(interface).collect(),
        }
    }
}

impl Shell {
    /// Tells of the tracked interfaces that changed.
    pub(super) fn follow_tracked(&mut self, inputs: &mut Vec<Input>) {
        let table = self.links.table();
        for (name, (min_up_slaves, told)) in &mut self.tracked.interfaces {
            let reading = reading(table.by_name(name), *min_up_slaves);
            if told.as_ref() != Some(&reading) {
                *told = Some(reading.clone());
                inputs.push(Input::Tracked {
                    source: Source::Interface(name.clone()),
                    reading,
                });
            }
        }
    }
}

/// The condition of an interface that is only looked at.
fn reading(link: Option<&Link>, min_up_slaves: u32) -> Reading {
    let slaves = link.and_then(Link::usable_slaves);
    let short = slaves.filter(|slaves| *slaves < min_up_slaves);
    let fault = match link {
        None => Some("it does not exist".to_owned()),
        Some(link) if !link.up => Some("it is administratively down".to_owned()),
        Some(_) if let Some(slaves) = short => Some(format!(
            "{slaves} of its slaves can be used, of {min_up_slaves} that are wanted"
        )),
        Some(link) if !link.usable() => Some("it has no carrier".to_owned()),
        Some(_) => None,
    };
    Reading {
        health: match fault {
            Some(_) => Health::Down,
            None => Health::Up,
        },
        count: slaves.map_or(0, |slaves| i32::try_from(slaves).unwrap_or(i32::MAX)),
        why: fault.unwrap_or_else(|| "it can be used".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interface_lacks_is_said() {
        let up = Link {
            up: true,
            carrier: true,
            ..Link::default()
        };
        let said = |link: Option<&Link>| {
            let reading = reading(link, 1);
            (reading.health, reading.why)
        };
        assert_eq!(said(Some(&up)).0, Health::Up);
        for (link, why) in [
            (None, "it does not exist"),
            (
                Some(Link {
                    up: false,
                    ..up.clone()
                }),
                "it is administratively down",
            ),
            (
                Some(Link {
                    carrier: false,
                    ..up.clone()
                }),
                "it has no carrier",
            ),
        ] {
            assert_eq!(said(link.as_ref()), (Health::Down, why.to_owned()));
        }
    }
}
