//! The tasks of the groups that have roles: started, kept over a reload where nothing changed, asked, and ended.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ha_common::MonoNs;
use ha_core::{
    Manner, Mode,
    plan::{GroupWord, Recovered},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};
use tracing::error;

use super::{
    JournalError, Neighbours, Peers, Spec, Wish, end_others, galera,
    journal::Journal,
    spec,
    task::{Board, Input, Task, Ways},
};
use crate::{
    config::{self, Config},
    control::report::{BootstrapReport, GroupReport, ModeReport},
    engine::{Handle, Message},
    fence::Fence,
};

/// What may wait for a task, which takes it up at once.
const INPUTS: usize = 256;
/// How long a standby may take to end its task: as long as it writes to the disk.
const STANDBY_ENDS: Duration = Duration::from_secs(3);

/// Sets the node's mode, or asks for it.
#[derive(Debug)]
pub struct ModeRequest {
    /// Which it is to be; `None`: as it is.
    pub mode: Option<Mode>,
    /// Who waits for it.
    pub reply: Option<ModeReply>,
}

/// Who waits to be told the node's mode.
pub type ModeReply = oneshot::Sender<Result<ModeReport, String>>;

/// All groups with roles. Clones are the same ones.
#[derive(Clone)]
pub struct Groups {
    running: Arc<Mutex<Vec<Running>>>,
    ways: Ways,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running();
        let names = running.iter().map(|one| &one.spec.conductor.group);
        f.debug_list().entries(names).finish()
    }
}

/// One group and its task.
struct Running {
    spec: Spec,
    /// The instances that are in it.
    members: Vec<String>,
    inputs: mpsc::Sender<Input>,
    board: Board,
    neighbours: Arc<Neighbours>,
    task: JoinHandle<()>,
    /// It is not in the configuration any more.
    retires: bool,
}

impl Running {
    fn report(&self) -> GroupReport {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.clone()
    }

    fn tell(&self, input: Input) {
        if self.inputs.try_send(input).is_err() && !self.retires {
            let group = &self.spec.conductor.group;
            error!(group, "the task of the group's roles takes nothing up");
        }
    }
}

/// A group whose journal is open.
pub struct Opened {
    spec: Spec,
    journal: (Journal, Recovered),
}

/// Opens the journals of all groups of a configuration.
///
/// # Errors
/// When one cannot be used: without it nobody knows whether the node's data may be served.
pub fn open(config: &Config) -> Result<Vec<Opened>, JournalError> {
    let specs = spec::of(config).into_iter();
    specs.map(Opened::new).collect()
}

impl Opened {
    fn new(spec: Spec) -> Result<Self, JournalError> {
        let journal = Journal::open(&spec.state_dir, &spec.conductor.group)?;
        // Before a step of any role: one that goes on beside them would be out of order.
        for role in &spec.roles {
            if let Err(why) = end_others(role, &spec.setting(role)) {
                error!(group = spec.conductor.group, "role {}: {why}", role.name);
            }
        }
        Ok(Self { spec, journal })
    }
}

impl Groups {
    /// None so far.
    #[must_use]
    pub fn new(
        engine: Handle,
        messages: mpsc::Sender<Message>,
        modes: mpsc::Sender<ModeRequest>,
        peers: Arc<dyn Peers>,
        fence: Fence,
    ) -> Self {
        Self {
            running: Arc::default(),
            ways: Ways {
                engine,
                messages,
                modes,
                peers,
                fence,
            },
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration of a database role.
    ///
    /// # Errors
    /// When there is no such role: in words, with those that there are.
    pub fn database(&self, role: &str) -> Result<config::MysqlRole, String> {
        let running = self.running();
        let roles = running.iter().flat_map(|group| &group.spec.roles);
        let mut names = Vec::new();
        for known in roles {
            if let config::RoleKind::Mysql(mysql) = &known.kind {
                if known.name == role {
                    return Ok((**mysql).clone());
                }
                names.push(known.name.as_str());
            }
        }
        let names = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        Err(format!(
            "there is no role \"{role}\" of kind \"mysql\". There is: {names}"
        ))
    }

    /// Begins the cluster of a role anew, whose nodes have all ended or lost it.
    ///
    /// # Errors
    /// When there is no such role, or something is being done with it; or what went wrong.
    pub async fn bootstrap(&self, role: &str, wish: Wish) -> Result<BootstrapReport, String> {
        let (galera, neighbours, expected) = self.cluster(role)?;
        galera::bootstrap(&galera, &neighbours, expected, wish).await
    }

    /// A role of kind "galera" with which nothing is being done, and how many other nodes it has.
    fn cluster(&self, role: &str) -> Result<(config::GaleraRole, Arc<Neighbours>, usize), String> {
        let running = self.running();
        for one in &*running {
            for known in one.spec.roles.iter().filter(|known| known.name == role) {
                let config::RoleKind::Galera(galera) = &known.kind else {
                    continue;
                };
                if one.report().plan.is_some_and(|plan| plan.under_way) {
                    return Err(
                        "something is being done with the roles of this group (`hactl roles`): wait until it has ended"
                            .to_owned(),
                    );
                }
                return Ok((
                    (**galera).clone(),
                    Arc::clone(&one.neighbours),
                    one.spec.conductor.peers,
                ));
            }
        }
        Err(format!("there is no role \"{role}\" of kind \"galera\""))
    }

    /// Begins the tasks of groups whose journals are open.
    pub fn start(&self, groups: Vec<Opened>, config: &Config, mode: Mode) {
        for Opened { spec, journal } in groups {
            let (inputs, receiver) = mpsc::channel(INPUTS);
            let board = Board::default();
            let neighbours = Arc::new(Neighbours::new(self.ways.peers.link()));
            let task = Task::new(
                spec.clone(),
                journal,
                mode,
                receiver,
                self.ways.clone(),
                Arc::clone(&board),
                Arc::clone(&neighbours),
            );
            self.running().push(Running {
                members: members(config, &spec),
                spec,
                inputs,
                board,
                neighbours,
                task: tokio::spawn(task.run()),
                retires: false,
            });
        }
    }

    /// Why a configuration cannot be taken up now: roles that are promoted are demoted as they were promoted.
    ///
    /// # Errors
    /// The first such group, and what to do. `is_active` says whether an instance is Active here, or about to be.
    pub fn fits(&self, config: &Config, is_active: &dyn Fn(&str) -> bool) -> Result<(), String> {
        let running = self.running();
        let wanted = spec::of(config);
        for old in running.iter().filter(|one| !one.retires) {
            let group = &old.spec.conductor.group;
            let spec = wanted.iter().find(|spec| spec.conductor.group == *group);
            let members = spec.map_or_else(Vec::new, |spec| members(config, spec));
            let stays = old.members.iter().any(|member| members.contains(member));
            let active = old.members.iter().any(|name| is_active(name));
            if !stays && (active || old.report().stance != "standby") {
                return Err(format!(
                    "group {group} would lose its {}, and it is Active here: hand it over first (hactl switchover {group}), then reload",
                    if members.is_empty() {
                        "roles"
                    } else {
                        "instances"
                    }
                ));
            }
        }
        for spec in wanted {
            let group = &spec.conductor.group;
            let old = running
                .iter()
                .find(|one| one.spec.conductor.group == *group);
            let active = members(config, &spec).iter().any(|name| is_active(name));
            let fits = match old {
                Some(old) => old.spec.is_like(&spec) || old.report().stance == "standby" && !active,
                None => !active,
            };
            if !fits {
                return Err(format!(
                    "the roles of group {group} changed, and it is Active here: hand it over first (hactl switchover {group}), then reload"
                ));
            }
        }
        Ok(())
    }

    /// Begins, ends and replaces tasks until they are those of a configuration that [fits](Self::fits). Returns what
    /// could not be done.
    pub async fn configure(&self, config: &Config, mode: Mode) -> Vec<String> {
        let wanted = spec::of(config);
        let mut stale = Vec::new();
        {
            let mut running = self.running();
            let all = std::mem::take(&mut *running);
            for mut one in all {
                let group = &one.spec.conductor.group;
                match wanted.iter().find(|spec| spec.conductor.group == *group) {
                    Some(spec) if one.spec.is_like(spec) => {
                        one.members = members(config, spec);
                        running.push(one);
                    }
                    Some(_) => stale.push(one),
                    // It ends when the engine has let go of it.
                    None => {
                        one.retires = true;
                        one.tell(Input::Retire);
                        running.push(one);
                    }
                }
            }
            running.retain(|one| !one.task.is_finished());
        }
        self.end(stale, Instant::now() + STANDBY_ENDS).await;
        let mut failed = Vec::new();
        for spec in wanted {
            let group = spec.conductor.group.clone();
            let runs = |one: &Running| one.spec.conductor.group == group;
            if self.running().iter().any(runs) {
                continue;
            }
            match spawn_blocking(move || Opened::new(spec)).await {
                Ok(Ok(opened)) => self.start(vec![opened], config, mode),
                Ok(Err(error)) => failed.push(format!("group {group}: {error}")),
                Err(_) => failed.push(format!("group {group}: the daemon ends")),
            }
        }
        failed
    }

    /// Ends every task: at once where nothing is promoted, else as soon as nothing is any more.
    pub async fn retire(&self, limit: Duration) {
        let all = std::mem::take(&mut *self.running());
        self.end(all, Instant::now() + limit).await;
    }

    async fn end(&self, tasks: Vec<Running>, deadline: Instant) {
        for one in &tasks {
            one.tell(Input::Retire);
        }
        for mut one in tasks {
            if timeout_at(deadline, &mut one.task).await.is_err() {
                let group = &one.spec.conductor.group;
                error!(
                    group,
                    "the group's roles are still being demoted: they are left as they are"
                );
                one.task.abort();
            }
        }
    }

    fn tell(&self, group: &str, input: Input) -> bool {
        let running = self.running();
        let one = running.iter().find(|one| one.spec.conductor.group == group);
        if let Some(one) = one {
            one.tell(input);
        }
        one.is_some()
    }

    /// The engine asks for it.
    pub fn promote(&self, group: &str, round: MonoNs, unplanned: bool) {
        self.tell(group, Input::Promote { round, unplanned });
    }

    /// The engine asks for it.
    pub fn demote(&self, group: &str, round: MonoNs, manner: Manner) {
        self.tell(group, Input::Demote { round, manner });
    }

    /// Another node said something of a group.
    pub fn hear(&self, group: &str, word: GroupWord) {
        self.tell(group, Input::Heard(Box::new(word)));
    }

    /// An instance of a group changed its state.
    pub fn note(&self, instance: &str, state: &str) {
        let running = self.running();
        let of = |one: &&Running| one.members.iter().any(|member| member == instance);
        if let Some(one) = running.iter().find(of) {
            one.tell(Input::Fault(state == "fault"));
        }
    }

    /// The node's mode.
    pub fn set_mode(&self, mode: Mode) {
        for one in &*self.running() {
            one.tell(Input::Mode(mode));
        }
    }

    /// An operator lets this node be promoted although newer data may exist.
    ///
    /// # Errors
    /// When there is no such group, or it is promoted.
    pub fn accept_loss(&self, target: &str) -> Result<GroupReport, String> {
        let running = self.running();
        let one = find(&running, target).ok_or_else(|| {
            format!("no group with roles is called \"{target}\", nor has such an instance: there is nothing to lose")
        })?;
        let report = one.report();
        if report.stance == "primary" {
            return Err(format!("the roles of {target} are promoted on this node"));
        }
        one.tell(Input::AcceptLoss);
        Ok(report)
    }

    /// How they stand.
    #[must_use]
    pub fn report(&self) -> Vec<GroupReport> {
        let running = self.running();
        let alive = running.iter().filter(|one| !one.task.is_finished());
        alive.map(Running::report).collect()
    }

    /// How the group stands that is called so, or has an instance that is; with what it is told.
    pub(super) fn find(&self, target: &str) -> Option<(Spec, GroupReport)> {
        let running = self.running();
        find(&running, target).map(|one| (one.spec.clone(), one.report()))
    }
}

fn find<'a>(running: &'a [Running], target: &str) -> Option<&'a Running> {
    let is_it = |one: &&Running| {
        one.spec.conductor.group == target || one.members.iter().any(|member| member == target)
    };
    running.iter().find(is_it)
}

/// The names of the instances of a group.
fn members(config: &Config, spec: &Spec) -> Vec<String> {
    let is_in = |group: Option<usize>| {
        let group = group.and_then(|group| config.groups.get(group));
        group.is_some_and(|group| group.name == spec.conductor.group)
    };
    let instances = config.instances.iter();
    instances
        .filter(|instance| is_in(instance.group))
        .map(|instance| instance.name.clone())
        .collect()
}
