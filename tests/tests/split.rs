//! With leases never two nodes answer for a VIP: a client asks both at their Ethernet addresses, all the time.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Heartbeat, Lab, LossyPort, Node, RollCall, eventually,
    lab::VIP,
    node::PATIENCE,
    now, scenario,
    scene::{Scene, WEB},
    wait::throughout,
};

/// The node that is Active at first, and the other one.
const A: usize = 0;
const B: usize = 1;

/// Comfortable on a busy machine; a lease lasts 100 ms.
const TIMES: &str = "interval = \"20ms\", multiplier = 5";

/// Several times a lease with its margin.
const A_WHILE: Duration = Duration::from_millis(400);

/// How long a node has to answer alone.
const ALONE: Nanos = Nanos::from_millis(100);

/// The interfaces of a node: the LAN's, and that of a cable between the nodes.
const CABLES: [&str; 2] = ["eth0", "eth1"];

struct Rivals {
    roll_call: RollCall,
    /// By node and cable.
    ports: [Vec<LossyPort>; 2],
    scene: Scene,
    from: MonoNs,
}

impl Rivals {
    fn start(lab: &Lab) -> Result<Self> {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        for (number, node) in (1..).zip(&nodes) {
            node.plug(CABLES[1])?;
            let address = format!("10.99.0.{number}/24");
            node.ns().ip(&["addr", "add", &address, "dev", CABLES[1]])?;
        }
        let ports = [lossy(&nodes[A], &nodes[B])?, lossy(&nodes[B], &nodes[A])?];
        let first = nodes[A].address();
        let scene = Scene::of(lab, nodes, |router| {
            let (local, peer) = if router.source == first {
                (1, 2)
            } else {
                (2, 1)
            };
            router.interval_ms(100).had_lines(&format!(
                "heartbeat = {{ {TIMES} }}\nchannels = [\"direct\"]\n\n\
                 [[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"eth1\"\n\
                 local = \"10.99.0.{local}\"\npeer = \"10.99.0.{peer}\"\n{}",
                TIMES.replace(", ", "\n")
            ))
        })?;
        let macs = scene.nodes.each_ref().map(Node::mac);
        let rivals = Self {
            roll_call: RollCall::start(&scene.client, VIP, macs)?,
            ports,
            scene,
            from: now(),
        };
        rivals.wait_alone(A)?;
        Ok(rivals)
    }

    /// From now on what a node sends to the other one is lost on some of the cables.
    fn lose(&mut self, node: usize, cables: [bool; 2]) -> Result<()> {
        let mut ports = self.ports[node].iter_mut().zip(cables);
        ports.try_for_each(|(port, lost)| port.lose(lost))
    }

    /// Waits until a node alone has answered for a while.
    fn wait_alone(&self, node: usize) -> Result<()> {
        let name = self.scene.nodes[node].name();
        eventually(PATIENCE, &format!("{name} alone answers"), || {
            Ok(self.roll_call.sole(now().before(ALONE)) == Some(node))
        })
    }

    /// Checks that the two nodes have never answered at the same time.
    fn never_both(&self) -> Result<()> {
        let both = self.roll_call.overlaps(self.from, now());
        ensure!(both.is_empty(), "both nodes answered: {both:?}");
        ensure!(self.roll_call.lost() == 0, "the client missed frames");
        Ok(())
    }

    /// The Active node's daemon hangs after its last `lost` heartbeats on each path were lost.
    fn hangs_after(&mut self, active: usize, lost: u64) -> Result<()> {
        let ports = self.ports[active].iter();
        let before = ports.map(|port| port.count(Heartbeat::Echo));
        let before = before.collect::<Result<Vec<_>>>()?;
        self.lose(active, [lost > 0; 2])?;
        for (port, before) in self.ports[active].iter().zip(before) {
            let at = port.wait_lost(Heartbeat::Echo, before, lost, PATIENCE)?;
            ensure!(at.is_some(), "the Active node asks for no lease");
        }
        self.scene.nodes[active].daemon()?.freeze()?;
        self.lose(active, [false; 2])?;
        self.wait_alone(1 - active)?;
        self.scene.nodes[active].daemon()?.thaw()?;
        self.scene.nodes[active].wait_for(WEB, "backup")?;
        self.wait_alone(1 - active)
    }

    /// For a while nothing passes from each of the nodes to the other one on some of the cables: that moves nothing.
    fn stays_despite(&mut self, from_active: [bool; 2], from_backup: [bool; 2]) -> Result<()> {
        self.lose(A, from_active)?;
        self.lose(B, from_backup)?;
        let what = format!("it stays Active despite {from_active:?} and {from_backup:?}");
        throughout(A_WHILE, &what, || {
            Ok(self.scene.nodes[A].state(WEB)? == "active")
        })?;
        self.lose(A, [false; 2])?;
        self.lose(B, [false; 2])?;
        self.wait_alone(A)
    }
}

fn lossy(node: &Node, other: &Node) -> Result<Vec<LossyPort>> {
    let cables = CABLES.iter();
    cables.map(|cable| node.lossy(cable, other)).collect()
}

#[test]
fn a_daemon_hangs_after_its_last_heartbeats_were_lost() {
    scenario(|lab| {
        let mut rivals = Rivals::start(lab)?;
        for (lost, active) in (0..=3).zip([A, B, A, B]) {
            rivals.hangs_after(active, lost)?;
        }
        rivals.never_both()
    });
}

#[test]
fn one_direction_is_lost() {
    scenario(|lab| {
        let mut rivals = Rivals::start(lab)?;
        let (none, lan, direct, both) = ([false; 2], [true, false], [false, true], [true; 2]);
        for (from_active, from_backup) in [
            (lan, none),
            (direct, none),
            (none, lan),
            (none, direct),
            (none, both),
            (lan, direct),
            (direct, lan),
        ] {
            rivals.stays_despite(from_active, from_backup)?;
        }
        rivals.lose(A, both)?;
        rivals.wait_alone(B)?;
        rivals.lose(A, none)?;
        rivals.scene.nodes[A].wait_for(WEB, "backup")?;
        rivals.wait_alone(B)?;
        rivals.never_both()
    });
}
