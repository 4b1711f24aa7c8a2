//! What is tracked: taken in, and brought to bear on the instances.

use alloc::{string::String, vec::Vec};

use ha_common::MonoNs;

use super::Engine;
use crate::{
    config::{GroupConfig, InstanceConfig},
    event::{Input, InstanceId},
    tracking::{Bearing, Reading, Source, Track, Tracked, TrackedConfig, TrackedStatus, bearing},
};

impl Engine {
    /// What is known of everything tracked, in the order of the configuration.
    #[must_use]
    pub fn tracked(&self) -> Vec<TrackedStatus> {
        self.tracked.iter().map(Tracked::status).collect()
    }

    /// What an instance tracks, and what the members of its group do: all that has an effect on it.
    #[must_use]
    pub fn tracks(&self, id: InstanceId) -> Vec<Track> {
        let Some(index) = self.index(id) else {
            return Vec::new();
        };
        let configs = || self.instances.iter().map(|instance| &instance.config);
        tracks(&self.instances[index].config, configs(), &self.groups)
            .into_iter()
            .cloned()
            .collect()
    }

    pub(super) fn take_in(&mut self, input: Input, now: MonoNs) {
        match input {
            Input::Tracked { source, reading } => self.read(&source, reading, now),
            Input::Mute { source, until } => {
                if let Some(thing) = self.tracked.iter_mut().find(|thing| thing.is(&source)) {
                    thing.mute(until);
                }
            }
            _ => return,
        }
        self.serve_tracked(now);
    }

    fn read(&mut self, source: &Source, reading: Reading, now: MonoNs) {
        if let Some(thing) = self.tracked.iter_mut().find(|thing| thing.is(source)) {
            thing.read(reading, now);
        }
    }

    /// Applies what is due of everything tracked.
    pub(super) fn serve_tracked(&mut self, now: MonoNs) {
        for thing in &mut self.tracked {
            thing.settle(now);
        }
        self.bring_to_bear(now);
    }

    /// An arbitrator was looked at.
    pub(super) fn confirmed(
        &mut self,
        source: &Source,
        round: MonoNs,
        result: &Result<(), String>,
        now: MonoNs,
    ) {
        for index in 0..self.instances.len() {
            let instance = &mut self.instances[index];
            let verdict = instance.confirmed(source, round, result, now, &mut self.out);
            self.apply(index, verdict, now);
        }
    }

    /// When something tracked is to be looked at again.
    pub(super) fn track_due(&self) -> Option<MonoNs> {
        self.tracked.iter().filter_map(Tracked::next).min()
    }

    /// Tells every instance what all that it tracks comes to.
    pub(super) fn bring_to_bear(&mut self, now: MonoNs) {
        for index in 0..self.instances.len() {
            let configs = self.instances.iter().map(|instance| &instance.config);
            let config = &self.instances[index].config;
            let bearing = bearing_on(config, configs, &self.groups, &self.tracked);
            let verdict = self.instances[index].bear(bearing, now, &mut self.out);
            self.apply(index, verdict, now);
        }
    }
}

/// The things of a new configuration, with what is known of those that were there before.
pub(super) fn match_tracked(before: &mut Vec<Tracked>, configs: &[TrackedConfig]) -> Vec<Tracked> {
    let matched = |config: &TrackedConfig| {
        let known = before.iter().position(|thing| thing.is(&config.source));
        match known.map(|at| before.swap_remove(at)) {
            Some(mut thing) => {
                thing.reconfigure(config.clone());
                thing
            }
            None => Tracked::new(config.clone()),
        }
    };
    configs.iter().map(matched).collect()
}

/// What all that an instance tracks comes to.
pub(super) fn bearing_on<'a>(
    config: &'a InstanceConfig,
    all: impl Iterator<Item = &'a InstanceConfig>,
    groups: &'a [GroupConfig],
    tracked: &[Tracked],
) -> Bearing {
    bearing(
        config.priority,
        tracks(config, all, groups).into_iter(),
        tracked,
    )
}

/// What has an effect on an instance: of what members of a group track in common, each thing once.
fn tracks<'a>(
    config: &'a InstanceConfig,
    all: impl Iterator<Item = &'a InstanceConfig>,
    groups: &'a [GroupConfig],
) -> Vec<&'a Track> {
    let Some(group) = config.group else {
        return config.track.iter().collect();
    };
    let members = all.filter(|other| other.group == Some(group));
    let common = groups.get(group).map_or(&[][..], |group| &group.track);
    let mut tracks: Vec<&Track> = Vec::new();
    for track in members.flat_map(|member| &member.track).chain(common) {
        if !tracks.contains(&track) {
            tracks.push(track);
        }
    }
    tracks
}
