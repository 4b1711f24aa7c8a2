//! Loss and delay on a port of the switch, for some kinds of packets alone. The kernel must have sch_netem.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Node;

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// VRRP adverts over IPv4.
    Adverts,
    /// UDP over IPv4 to a port.
    Udp(u16),
}

impl Flow {
    fn selector(self) -> Vec<String> {
        let words = match self {
            Self::Adverts => "match ip protocol 112 0xff".to_owned(),
            Self::Udp(port) => {
                format!("match ip protocol 17 0xff match ip dport {port} 0xffff")
            }
        };
        words.split(' ').map(str::to_owned).collect()
    }
}

/// What was done to the packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Those that passed.
    pub passed: u64,
    /// Those that were lost.
    pub lost: u64,
}

/// The port of a node's eth0, towards the node. It stays as it is for as long as the lab does.
pub struct Netem<'n> {
    node: &'n Node,
    flows: Vec<Flow>,
}

impl<'n> Netem<'n> {
    /// Treats each flow by itself as netem's `settings` say (tc-netem(8)). Everything else passes untouched.
    pub fn new(node: &'n Node, flows: &[(Flow, &str)]) -> Result<Self> {
        let this = Self {
            node,
            flows: flows.iter().map(|(flow, _)| *flow).collect(),
        };
        // Band 1 for everything else, whatever its priority.
        let bands = (flows.len() + 1).to_string();
        let mut root = vec![
            "qdisc", "add", "root", "handle", "1:", "prio", "bands", &bands,
        ];
        root.push("priomap");
        root.extend(["0"; 16]);
        this.tc(&root)?;
        for (band, (flow, settings)) in (2..).zip(flows) {
            let class = format!("1:{band}");
            let handle = format!("{band}0:");
            let mut qdisc = vec!["qdisc", "add", "parent", &class, "handle", &handle, "netem"];
            qdisc.extend(settings.split(' '));
            this.tc(&qdisc)?;
            let selector = flow.selector();
            let mut filter = vec!["filter", "add", "parent", "1:", "protocol", "ip", "u32"];
            filter.extend(selector.iter().map(String::as_str));
            filter.extend(["flowid", &class]);
            this.tc(&filter)?;
        }
        Ok(this)
    }

    /// The packets of a flow until now.
    pub fn tally(&self, flow: Flow) -> Result<Tally> {
        let band = self.flows.iter().position(|one| *one == flow);
        let handle = format!("{}0:", band.context("a flow that passes untouched")? + 2);
        let text = self.tc(&["-s", "-j", "qdisc", "show"])?;
        let qdiscs: Vec<Value> = serde_json::from_str(&text)?;
        let qdisc = qdiscs
            .iter()
            .find(|qdisc| qdisc["handle"] == handle.as_str())
            .with_context(|| format!("no qdisc {handle}: {text}"))?;
        let count = |name: &str| {
            let count = qdisc[name].as_u64();
            count.with_context(|| format!("no {name}: {qdisc}"))
        };
        Ok(Tally {
            passed: count("packets")?,
            lost: count("drops")?,
        })
    }

    /// Runs `tc OPTIONS OBJECT COMMAND dev PORT ARGUMENTS`.
    fn tc(&self, words: &[&str]) -> Result<String> {
        let options = words
            .iter()
            .take_while(|word| word.starts_with('-'))
            .count();
        let (before, after) = words.split_at((options + 2).min(words.len()));
        let mut arguments = before.to_vec();
        let port = self.node.port("eth0");
        arguments.extend(["dev", &port]);
        arguments.extend(after);
        self.node.switch_ns().run("tc", &arguments)
    }
}
