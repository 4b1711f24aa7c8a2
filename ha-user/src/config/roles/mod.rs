//! `[[role]]`: what a group's Active node does beside holding VIPs. The keys of each kind stand in a file of their own.

mod alone;
mod binlog;
mod cron;
mod drbd;
mod galera;
mod mode;
mod mount;
mod mysql;
mod script;
mod server;
mod sync;
mod unit;

use std::collections::BTreeMap;

use ha_common::Nanos;

pub(super) use self::mode::{KEYS as MODE_KEYS, parse as parse_mode};
pub use self::{
    binlog::BinlogRole,
    cron::CronRole,
    drbd::DrbdRole,
    galera::{Bootstrap, GaleraRole},
    mode::{AfterFailover, Modes},
    mount::{MountRole, mount_flags},
    mysql::MysqlRole,
    script::{RoleCommand, ScriptRole},
    server::ServerProcess,
    sync::SyncRole,
    unit::UnitRole,
};
use super::{
    check::OWNER,
    parse::{Draft, DraftGroup, name_if_any, span},
    reader::{At, Reader, Section, nearest},
};

/// One role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What is promoted and demoted, and how.
    pub kind: RoleKind,
}

/// `kind`, with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// Backup and purge of a database's binary logs.
    Binlog(BinlogRole),
    /// Jobs that cron runs on the Active node alone.
    Cron(CronRole),
    /// A resource of DRBD.
    Drbd(DrbdRole),
    /// A node of a Galera cluster.
    Galera(Box<GaleraRole>),
    /// A file system.
    Mount(MountRole),
    /// A MariaDB or MySQL server with replication.
    Mysql(Box<MysqlRole>),
    /// A program that is told each change, and acknowledges it.
    Script(Box<ScriptRole>),
    /// Directories that are copied from the Active node to the others.
    Sync(SyncRole),
    /// A unit of systemd.
    Unit(UnitRole),
}

impl RoleKind {
    /// As in the file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.form().name
    }

    /// Whether it has data of which one node's may be newer than the other's: its nodes talk over the link.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        self.form().data
    }

    /// Whether its nodes ask each other for more than messages.
    #[must_use]
    pub const fn has_streams(&self) -> bool {
        matches!(self, Self::Sync(_))
    }

    /// Whether its data decides which node is promoted.
    const fn is_database(&self) -> bool {
        matches!(self, Self::Galera(_) | Self::Mysql(_))
    }

    const fn form(&self) -> &'static Form {
        match self {
            Self::Binlog(_) => &binlog::FORM,
            Self::Cron(_) => &cron::FORM,
            Self::Drbd(_) => &drbd::FORM,
            Self::Galera(_) => &galera::FORM,
            Self::Mount(_) => &mount::FORM,
            Self::Mysql(_) => &mysql::FORM,
            Self::Script(_) => &script::FORM,
            Self::Sync(_) => &sync::FORM,
            Self::Unit(_) => &unit::FORM,
        }
    }
}

/// What a kind of role looks like in the file.
struct Form {
    /// `kind`.
    name: &'static str,
    /// Its own keys, beside [`KEYS`].
    keys: &'static [&'static str],
    /// Whether it has data of which one node's may be newer than the other's.
    data: bool,
    /// Reads them; what is missing or wrong has been reported where the answer is `None`.
    parse: fn(&Section<'_>) -> Option<RoleKind>,
}

const FORMS: &[&Form] = &[
    &binlog::FORM,
    &cron::FORM,
    &drbd::FORM,
    &galera::FORM,
    &mount::FORM,
    &mysql::FORM,
    &script::FORM,
    &sync::FORM,
    &unit::FORM,
];

/// The keys that every role has.
const KEYS: &[&str] = &["name", "kind"];

/// Limits of a step.
const SHORTEST: Nanos = Nanos::from_millis(10);
const LONGEST: Nanos = Nanos::from_secs(3_600);

/// How long a step may take.
fn limit(section: &Section<'_>, key: &str, default: Nanos) -> Option<Nanos> {
    match section.offset_of(key) {
        None => Some(default),
        Some(_) => span(section, key, SHORTEST, LONGEST),
    }
}

/// What was missing or wrong is `None` and has been reported.
pub(super) struct DraftRole {
    pub(super) place: String,
    pub(super) name: Option<At<String>>,
    /// What stands there as its name, even if it cannot be one.
    called: Option<String>,
    kind: Option<RoleKind>,
}

/// Every kind.
#[cfg(test)]
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.name)
}

/// The keys that a role of this kind has; those of all kinds, where none is written. `None`: there is no such kind.
pub(super) fn keys(kind: Option<&str>) -> Option<Vec<&'static str>> {
    let mut forms = FORMS
        .iter()
        .filter(|form| kind.is_none_or(|kind| kind == form.name))
        .peekable();
    forms.peek()?;
    let own = forms.flat_map(|form| form.keys);
    Some(KEYS.iter().chain(own).copied().collect())
}

pub(super) fn parse(section: &Section<'_>) -> DraftRole {
    let form = form(section);
    DraftRole {
        place: section.place.clone(),
        name: section.require("name", name_if_any(section), "\"mariadb\""),
        called: section.string("name").map(|name| name.value),
        kind: form.and_then(|form| (form.parse)(section)),
    }
}

fn form(section: &Section<'_>) -> Option<&'static Form> {
    let kinds: Vec<(&str, &Form)> = FORMS.iter().map(|form| (form.name, *form)).collect();
    let words: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
    let kind = section.require_or("kind", section.choice("kind", &kinds), || {
        format!("add `kind`, one of \"{}\"", words.join("\", \""))
    });
    kind.map(|kind| kind.value)
}

/// The roles, unless one was too broken; and what is wrong with them and the groups together.
pub(super) fn check(reader: &Reader<'_>, draft: &Draft) -> Option<Vec<Role>> {
    let mut owners: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for group in &draft.groups {
        for wanted in &group.roles {
            known(reader, draft, group, wanted);
            if let Some((line, owner)) = owners.get(wanted.value.as_str()) {
                reader.fail(
                    wanted.offset,
                    format!("{}, roles", group.place),
                    format!("\"{}\" is already in {owner}, line {line}", wanted.value),
                    "name each role once, in one group: a group's roles move together",
                );
            } else {
                let line = reader.line(wanted.offset);
                owners.insert(&wanted.value, (line, &group.place));
            }
        }
    }
    one_database_each(reader, draft);
    owners_have_none(reader, draft);
    none_preempts(reader, draft);
    alone::check(reader, draft);
    binlog::check(reader, draft);
    sync::check(reader, draft);
    for role in &draft.roles {
        let Some(name) = &role.name else { continue };
        if !owners.contains_key(name.value.as_str()) {
            reader.fail(
                name.offset,
                format!("{}, name", role.place),
                "no group has this role",
                format!(
                    "write it into `roles` of a [[group]], as roles = [\"{}\"], or remove the role",
                    name.value
                ),
            );
        }
    }
    let roles = draft.roles.iter().map(|role| {
        Some(Role {
            name: role.name.as_ref()?.value.clone(),
            kind: role.kind.clone()?,
        })
    });
    roles.collect()
}

/// Who may be promoted depends on how new its data is: on that of one database.
fn one_database_each(reader: &Reader<'_>, draft: &Draft) {
    for group in &draft.groups {
        let is_database = |wanted: &&At<String>| {
            let mut roles = draft.roles.iter();
            let role = roles.find(|role| role.called.as_deref() == Some(&wanted.value));
            role.is_some_and(|role| role.kind.as_ref().is_some_and(RoleKind::is_database))
        };
        let mut databases = group.roles.iter().filter(is_database);
        let Some(first) = databases.next() else {
            continue;
        };
        // One that is named twice has been reported.
        if let Some(second) = databases.find(|role| role.value != first.value) {
            reader.fail(
                second.offset,
                format!("{}, roles", group.place),
                format!(
                    "\"{}\" is a database beside \"{}\", and which node may be promoted depends on the data of one",
                    second.value, first.value
                ),
                "give it a group of its own, with an instance of its own",
            );
        }
    }
}

/// The owner of the addresses has them without any election, and so before its roles could be promoted.
fn owners_have_none(reader: &Reader<'_>, draft: &Draft) {
    for instance in &draft.instances {
        let wanted = instance.group.as_ref().map(|group| &group.value);
        let group = draft
            .groups
            .iter()
            .find(|group| Some(&group.name.value) == wanted);
        if group.is_some_and(|group| !group.roles.is_empty()) && instance.priority.value == OWNER {
            reader.fail(
                instance.priority.offset,
                format!("{}, priority", instance.place),
                "255 says that the virtual addresses are this node's own, and its group has roles, which move with them",
                "write a priority from 1 to 254",
            );
        }
    }
}

/// To take over from a live node is to take its roles away from it while it serves.
fn none_preempts(reader: &Reader<'_>, draft: &Draft) {
    for instance in &draft.instances {
        let wanted = instance.group.as_ref().map(|group| &group.value);
        let mut groups = draft.groups.iter();
        let group = groups.find(|group| Some(&group.name.value) == wanted);
        if group.is_some_and(|group| !group.roles.is_empty()) && instance.preempt.value {
            reader.fail(
                instance.preempt.offset,
                format!("{}, preempt", instance.place),
                "its group has roles, and a node that serves is not to lose them to one that has just come back",
                "write `preempt = false`, or leave it out; `hactl switchover` moves a group back",
            );
        }
    }
}

/// A role that a group names is there.
fn known(reader: &Reader<'_>, draft: &Draft, group: &DraftGroup, wanted: &At<String>) {
    let called = |role: &DraftRole| role.called.as_deref() == Some(&wanted.value);
    let key = || format!("{}, roles", group.place);
    let Some(role) = draft.roles.iter().find(|role| called(role)) else {
        let names: Vec<&str> = draft
            .roles
            .iter()
            .filter_map(|role| role.called.as_deref())
            .collect();
        reader.fail(
            wanted.offset,
            key(),
            format!("there is no role \"{}\"", wanted.value),
            match nearest(&wanted.value, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add a [[role]] with `name = \"{}\"`", wanted.value),
            },
        );
        return;
    };
    let has_data = role.kind.as_ref().is_some_and(RoleKind::has_data);
    if has_data && !draft.has_link {
        reader.fail(
            wanted.offset,
            key(),
            format!(
                "\"{}\" has data, and the nodes have no link over which to tell each other how new theirs are",
                wanted.value
            ),
            "add a [link] with `key_file`, the same key on all nodes",
        );
    }
}

/// Where in [`super::Config::roles`] a group's roles are, in their order.
pub(super) fn of_group(group: &DraftGroup, roles: &[Role]) -> Vec<usize> {
    let places = group.roles.iter();
    places
        .filter_map(|wanted| roles.iter().position(|role| role.name == wanted.value))
        .collect()
}
