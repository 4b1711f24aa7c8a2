//! The host's other interfaces, which no instance or channel names.
//!
//! Linux answers ARP by any interface for any address of the host, and takes packets to it there. So where several
//! interfaces lie in one network, others than the instance's would answer for its VIPs, and for the node's own address
//! to which peers send. They are guarded by tc programs ([`crate::dataplane::Guards`]), and ARP requests of the
//! kernel's own are kept from naming such an address as sender (`arp_announce`, `sysctls.rs`).
//!
//! All of that takes its time, and none of it is urgent: a thread of ordinary priority follows the interfaces by a
//! netlink socket of its own, so that the engine never waits for it.

mod choice;
mod ending;
mod sysctls;
mod worker;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use ipnet::IpNet;
use rustix::event::{EventfdFlags, eventfd};

use self::{ending::Thread, worker::Worker};
use crate::{config::Config, dataplane::Guards};

/// How long taking the guards off and putting the sysctls back may take.
const UNDO_LIMIT: Duration = Duration::from_secs(10);

/// What was done about them, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The interfaces that are guarded.
    pub guarded: Vec<String>,
    /// What could not be done, a sentence each.
    pub warnings: Vec<String>,
}

/// What of a configuration concerns them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The interfaces that instances and channels name.
    named: BTreeSet<String>,
    /// Whether anything is to be done at all.
    is_wanted: bool,
    /// Those that have VIPs of IPv4.
    with_vips: BTreeSet<String>,
    vips: BTreeSet<Ipv4Addr>,
    /// Those to whose own addresses peers send.
    with_peers: BTreeSet<String>,
}

impl From<&Config> for Plan {
    fn from(config: &Config) -> Self {
        let bfd = config.channels.iter().map(|one| &one.interface);
        let leases = config.lease_channels.iter().map(|one| &one.interface);
        let channels = bfd.chain(leases);
        let unicast = config.instances.iter().filter(|one| !one.peers.is_empty());
        let unicast = unicast.map(|one| &one.interface);
        let mut plan = Self {
            named: channels.clone().cloned().collect(),
            is_wanted: config.dataplane.guard_others,
            with_peers: channels.chain(unicast).cloned().collect(),
            ..Self::default()
        };
        let instances = config.instances.iter().map(|one| &one.interface);
        plan.named.extend(instances.cloned());
        for instance in &config.instances {
            for vip in instance.vips.iter().map(IpNet::addr) {
                if let IpAddr::V4(vip) = vip {
                    plan.vips.insert(vip);
                    plan.with_vips.insert(instance.interface.clone());
                }
            }
        }
        plan
    }
}

/// The thread that sees to them.
pub struct Others {
    plans: Sender<Plan>,
    ending: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    state: Arc<Mutex<State>>,
    thread: Thread,
}

impl Others {
    /// Starts the thread. `has_gate`: whether there is a dataplane; `guards` may be absent all the same.
    ///
    /// # Errors
    /// When the thread or a descriptor cannot be made.
    pub fn spawn(config: &Config, has_gate: bool, guards: Option<Guards>) -> io::Result<Self> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let state = Arc::new(Mutex::new(State::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let (plans, receiver): (_, Receiver<Plan>) = channel();
        let worker = Worker::open(
            Plan::from(config),
            has_gate,
            guards,
            record(config),
            Arc::clone(&state),
            Arc::clone(&ending),
        )?;
        let woken = Arc::clone(&wake);
        let thread = Thread::spawn(
            "had-others",
            move || worker.run(&receiver, &woken),
            Worker::undo,
        )?;
        Ok(Self {
            plans,
            ending,
            wake,
            state,
            thread,
        })
    }

    /// What was done so far.
    #[must_use]
    pub fn state(&self) -> Arc<Mutex<State>> {
        Arc::clone(&self.state)
    }

    /// Follows another configuration.
    pub fn configure(&self, config: &Config) {
        // It ends only when told to.
        let _ = self.plans.send(Plan::from(config));
        self.wake();
    }

    /// From now on everything stays as it is. Does not wait for what is being done, which may take long.
    pub fn stop(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Takes the guards off, and puts the sysctls back: when everything was handed over, for the guards are a part of
    /// the gate.
    ///
    /// # Errors
    /// It could not be done in time, and was left.
    pub async fn undo(self) -> Result<(), Unfinished> {
        self.stop();
        self.thread.undo(UNDO_LIMIT).await
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Not everything was undone in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the other interfaces stay guarded, or their sysctls changed: the kernel did not take that back in time. The next start of had tries again"
)]
pub struct Unfinished;

/// A copy of what is known by now.
#[must_use]
pub fn snapshot(state: &Mutex<State>) -> State {
    state.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Where it is written down which sysctls were changed.
fn record(config: &Config) -> PathBuf {
    config.node.runtime_dir.join("sysctls.json")
}
