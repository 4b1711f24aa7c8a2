//! A bond as an instance's interface.

use anyhow::{Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Client, Kind, Lab, Mac, Node, Prober, Probes, bond::LINKS, eventually,
    guest::scenario_in_guest, lab::VIP, node::PATIENCE, now, scene::WEB,
};

use crate::{figures::Figures, slow};

const ACTIVE_BACKUP: &[&str] = &["mode", "active-backup"];

/// How often the active link fails with `had`, and how often without.
const FAILURES: usize = 30;

/// Between two probes of an address; two are probed at a time.
const PERIOD: Nanos = Nanos::from_millis(2);

/// So many answers show that an address is served.
const SERVED: usize = 20;

/// The client's silence may be longer by this than the bond's own.
const MARGIN_MS: f64 = 5.0;

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

/// A node whose active link fails, and who asks for two of its addresses meanwhile.
struct Subject<'a> {
    node: &'a Node,
    probers: [Prober; 2],
}

impl<'a> Subject<'a> {
    fn new(node: &'a Node, client: &Client, addresses: [std::net::Ipv4Addr; 2]) -> Result<Self> {
        let [one, other] =
            addresses.map(|address| Prober::every(PERIOD, client, address, Probes::Echo));
        let probers = [one?, other?];
        for prober in &probers {
            prober.pause();
        }
        Ok(Self { node, probers })
    }

    /// Waits until both addresses are served, by answers later than `from`.
    fn wait_served(&self, from: MonoNs) -> Result<()> {
        eventually(PATIENCE, "the client is served", || {
            let answers = |prober: &Prober| prober.answers(from, MonoNs(u64::MAX)).len();
            Ok(self.probers.iter().all(|prober| answers(prober) > SERVED))
        })
    }

    /// Fails the active link, until the bond has taken it back. How long the client heard nothing of each address, in
    /// milliseconds.
    fn fail(&self) -> Result<[f64; 2]> {
        let active = self.node.active_link()?;
        for prober in &self.probers {
            prober.clear();
            prober.resume();
        }
        self.wait_served(now())?;
        let from = now();
        self.node.set_cable(&active, false)?;
        self.wait_served(now())?;
        let [one, other] = self
            .probers
            .each_ref()
            .map(|prober| prober.longest_gap(from, now()));
        for prober in &self.probers {
            prober.pause();
        }
        ensure!(
            self.node.active_link()? != active,
            "the bond stays with {active}"
        );
        self.node.set_cable(&active, true)?;
        eventually(PATIENCE, "the link is usable again", || {
            let state = format!("/sys/class/net/{active}/bonding_slave/mii_status");
            Ok(self.node.ns().run("cat", &[&state])?.trim() == "up")
        })?;
        Ok([millis(one?.length()), millis(other?.length())])
    }
}

fn millis(span: Nanos) -> f64 {
    std::time::Duration::from_nanos(span.0).as_secs_f64() * 1e3
}

/// Two nodes, the first is Active.
fn pair(lab: &Lab) -> Result<[Node; 2]> {
    let mut nodes = [
        lab.bonded_node("n1", ACTIVE_BACKUP)?,
        lab.bonded_node("n2", ACTIVE_BACKUP)?,
    ];
    let addresses = [nodes[0].address(), nodes[1].address()];
    for (index, state) in ["active", "backup"].into_iter().enumerate() {
        let node = &mut nodes[index];
        node.set_dataplane("mode = \"auto\"");
        let router = slow(node.router()).peers(&[addresses[1 - index]]);
        node.start(Kind::Had, &[router])?;
        node.wait_for(WEB, state)?;
    }
    nodes[1].wait_for_active_peer(WEB, addresses[0])?;
    Ok(nodes)
}

fn wait_served_by(prober: &Prober, station: Mac) -> Result<()> {
    eventually(PATIENCE, "the client is served by the node", || {
        Ok(prober.answered_within(RECENTLY) == Some(station))
    })
}

/// In turn the active link of a node without `had` fails, and that of the Active node: so whatever else this machine
/// does slows both. And at each failure of the latter the VIP is compared with the node's own address, for which the
/// kernel answers: that difference is free of the time that the bond takes to notice, which varies most.
#[test]
fn the_active_link_s_failure_is_the_bond_s_business() {
    scenario_in_guest(|lab| {
        let client = lab.client("c1")?;
        let plain = lab.bonded_node("n9", ACTIVE_BACKUP)?;
        let second = std::net::Ipv4Addr::new(10, 77, 0, 109);
        let net = format!("{second}/24");
        plain.ns().ip(&["addr", "add", &net, "dev", "eth0"])?;
        let nodes = pair(lab)?;
        let status = nodes[0].hactl(&["status"])?;
        ensure!(status["dataplane"]["mode"] == "generic", "{status}");
        let transitions = || -> Result<_> {
            Ok([
                nodes[0].events("transition")?,
                nodes[1].events("transition")?,
            ])
        };
        let before = transitions()?;

        let without_had = Subject::new(&plain, &client, [second, plain.address()])?;
        let with_had = Subject::new(&nodes[0], &client, [VIP, nodes[0].address()])?;
        let [mut without, mut with, mut beside] = [const { Vec::new() }; 3];
        for _ in 0..FAILURES {
            without.push(without_had.fail()?[0]);
            let [vip, own] = with_had.fail()?;
            with.push(vip);
            beside.push(vip - own);
        }
        ensure!(transitions()? == before, "{:?}", transitions()?);
        let [without, with, beside] = [without, with, beside].map(Figures::of);
        let (longer, error) = (
            with.median - without.median,
            with.error.hypot(without.error),
        );
        println!(
            "\nclient silence when the active link of a bond fails, miimon 20 ms, {FAILURES} failures each:"
        );
        println!("  without had                 {without}");
        println!("  with had                    {with}");
        println!(
            "  longer with had by          {longer:.1} ms ± {error:.1}; allowed are {MARGIN_MS} ms"
        );
        println!("  VIP beside the node's own   {beside}");
        // More than an accident of emulated processors.
        ensure!(longer <= MARGIN_MS + 3.0 * error, "{longer} ± {error} ms");
        ensure!(beside.median <= MARGIN_MS, "{beside}");

        // No usable link any more.
        let [prober, _] = &with_had.probers;
        prober.resume();
        for link in LINKS {
            nodes[0].set_cable(link, false)?;
        }
        nodes[1].wait_for(WEB, "active")?;
        wait_served_by(prober, nodes[1].mac())
    });
}
