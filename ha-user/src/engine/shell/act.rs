//! Carries out what the engine decides, one action at a time.

use ha_common::{MonoNs, lease::Rank};
use ha_core::{Action, Input, tracking::Source};

use super::Shell;
use crate::{
    engine::outbox::{Level, Message},
    events::Kind,
    sys::clock,
};

impl Shell {
    /// Carries out one action; the outcome, where the engine asks for one.
    pub(in crate::engine) fn execute(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::SetEpoch { instance, epoch } => self.set_epoch(instance, epoch),
            Action::SetLease {
                instance,
                slot,
                lease,
            } => self.set_lease(instance, slot, lease),
            Action::SetRank {
                instance,
                priority,
                position,
            } => {
                if let Some(seat) = self.seat_mut(instance) {
                    seat.rank = priority;
                    seat.position = position;
                }
                if let Some(dataplane) = &mut self.dataplane {
                    let priority = priority.0;
                    dataplane.set_lease_rank(instance, Rank { position, priority });
                }
                if let Some(dataplane) = &mut self.dataplane
                    && let Err(error) = dataplane.set_priority(instance, priority.0)
                {
                    self.out.log(
                        Level::Error,
                        format!("the dataplane did not take the priority: {error}"),
                    );
                }
            }
            Action::Watch { instance, down } => self.watch(instance, down),
            Action::SendAdvert { .. } => return self.advertise(&[action]).pop(),
            Action::AddVips { instance } => return self.add_vips(instance),
            Action::RemoveVips { instance } => {
                self.remove_vips(instance);
                return self.work();
            }
            Action::Announce {
                instance,
                first,
                count,
            } => {
                let result = self.announce(instance, first, count)?;
                return Some(Input::Announced { instance, result });
            }
            Action::Report(transition) => self.report(&transition),
            Action::Note { instance, sentence } => {
                if let Some(index) = self.index(instance) {
                    let name = &self.seats[index].name;
                    self.out.event(clock::now(), name, Kind::Note, sentence);
                }
            }
            Action::Alarm { instance, sentence } => {
                if let Some(index) = self.index(instance) {
                    let name = &self.seats[index].name;
                    self.out.log(Level::Error, format!("{name}: {sentence}"));
                    self.out.event(clock::now(), name, Kind::Note, sentence);
                }
            }
            Action::Finished => self.finished = true,
            Action::Stand { instance, standing } => self.stand(instance, standing),
            Action::Act { instance } => {
                let result = match &self.dataplane {
                    Some(dataplane) => dataplane.act(instance, clock::now()),
                    None => Err(MonoNs(u64::MAX)),
                };
                return Some(Input::Acted { instance, result });
            }
            Action::LetGo { instance } => {
                if let Some(dataplane) = &self.dataplane {
                    dataplane.let_go(instance);
                }
            }
            Action::SendEcho { path, round } => {
                let result = self.with_paths(|paths, world| paths.send_echo(path, round, world));
                let result = result.unwrap_or_else(|| Err("there is no dataplane".to_owned()));
                return Some(Input::EchoSent {
                    path,
                    round,
                    result,
                });
            }
            Action::SendRelease { instance, round } => {
                self.with_paths(|paths, world| paths.send_release(instance, round, world));
            }
            Action::RenewAlone {
                instance,
                peer,
                lease,
                heard_at,
            } => {
                if let Some(dataplane) = &self.dataplane {
                    dataplane.renew_alone(instance, peer, lease, heard_at);
                }
            }
            Action::Confirm { source, round } => match source {
                Source::Check(check) => self.out.confirm(check, round),
                // Only checks can be arbitrators.
                Source::Interface(_) => {
                    let result = Err("an interface cannot be asked".to_owned());
                    return Some(Input::Confirmed {
                        source,
                        round,
                        result,
                    });
                }
            },
            Action::PromoteRoles {
                group,
                round,
                unplanned,
            } => self.out.order(Message::PromoteRoles {
                group,
                round,
                unplanned,
            }),
            Action::DemoteRoles {
                group,
                round,
                manner,
            } => self.out.order(Message::DemoteRoles {
                group,
                round,
                manner,
            }),
            Action::PathReport { path, up, heard_at } => {
                self.paths.report_change(path, up, heard_at, &mut self.out);
            }
        }
        None
    }
}
