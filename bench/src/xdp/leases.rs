//! The paths of leases: an echo that is granted, and an answer that brings a grant.

use anyhow::Result;
use ha_common::{
    Address, MonoNs, Nanos,
    abi::Reason,
    lease::{Ask, PORT, Rank, Standing},
    wire::{
        echo::{self, Entry, Head, Kind, MAX_LEN, Route, Verdict},
        ipv4,
    },
};
use ha_tests::now;
use ha_user::dataplane::{Dataplane, Grantor, Grantors, PathSettings};

use super::{
    ID,
    paths::{self, LOOPBACK, OURS, PEER, Path, VRID},
};

const PATH: u32 = 0;
const LEASE: Nanos = Nanos::from_millis(200);
const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Node and boot.
const OUR_IDS: (u64, u64) = (1, 101);
const PEER_NODE: u64 = 2;

const RANK: Rank = Rank {
    position: 0,
    priority: 100,
};

/// An echo whose sender is known, and which is granted each time that it comes with a later send time.
pub(super) fn echo(dataplane: &mut Dataplane, keyed: bool) -> Result<Path> {
    let key = keyed.then_some(KEY);
    set_up(dataplane, key)?;
    dataplane.set_standing(ID, Standing::Bystander);
    let mut head = Head {
        kind: Kind::Echo,
        count: 0,
        node: PEER_NODE,
        // None that is known.
        boot: now().0,
        challenge: 0,
        sequence: 1,
        sent: MonoNs(1),
        lease: LEASE,
    };
    // A stranger's: the challenge is drawn.
    dataplane.run_ingress(&frame(&head, &[], key)?)?;
    head.challenge = dataplane.path_state(PATH).challenge;
    let entry = entry(dataplane, Verdict::None);
    // The first one reports what the peer asks.
    dataplane.run_ingress(&frame(&head, &[entry], key)?)?;
    let numbered = move |number| {
        let head = Head {
            sequence: number,
            sent: MonoNs(number),
            ..head
        };
        frame(&head, &[entry], key)
    };
    Ok(Path {
        name: if keyed {
            "echo → grant, SipHash"
        } else {
            "echo → grant"
        },
        frame: numbered(2)?,
        open: false,
        reason: Reason::EchoAnswered,
        rewrites: true,
        bounded: !keyed,
        next: Some(Box::new(move |number| numbered(3 + number))),
    })
}

/// An answer that grants.
pub(super) fn answer(dataplane: &mut Dataplane, keyed: bool) -> Result<Path> {
    let key = keyed.then_some(KEY);
    set_up(dataplane, key)?;
    dataplane.set_standing(ID, Standing::Active);
    let head = Head {
        kind: Kind::Answer,
        count: 0,
        node: PEER_NODE,
        boot: OUR_IDS.1,
        challenge: 0,
        sequence: 1,
        sent: now(),
        lease: LEASE,
    };
    let entry = entry(dataplane, Verdict::Granted);
    Ok(Path {
        name: if keyed {
            "grant → lease, SipHash"
        } else {
            "grant → lease"
        },
        frame: frame(&head, &[entry], key)?,
        open: false,
        reason: Reason::EchoAnswer,
        rewrites: false,
        bounded: !keyed,
        next: None,
    })
}

/// An instance with a peer that grants, on one path.
fn set_up(dataplane: &mut Dataplane, key: Option<[u64; 2]>) -> Result<()> {
    dataplane.clear_instance(ID)?;
    dataplane.set_instance(ID, &paths::instance(), &[paths::VIP.into()], &[])?;
    dataplane.set_epoch(ID, dataplane.epoch(ID).raised());
    let path = PathSettings {
        ifindex: LOOPBACK,
        local: OURS.into(),
        peer: PEER.into(),
        key,
        node: OUR_IDS.0,
        boot: OUR_IDS.1,
    };
    dataplane.set_path(PATH, &path)?;
    let grantors = Grantors {
        peers: vec![Grantor {
            address: PEER.into(),
            is_greater: true,
            paths: vec![PATH],
        }],
        lease: LEASE,
    };
    // What was promised at a start so long ago has run out.
    dataplane.set_grantors(ID, Some(&grantors), MonoNs(1))?;
    dataplane.set_lease_rank(ID, RANK);
    Ok(())
}

fn entry(dataplane: &Dataplane, verdict: Verdict) -> Entry {
    Entry {
        vrid: VRID,
        family: ipv4::VERSION,
        ask: Ask::Hold,
        verdict,
        epoch: dataplane.epoch(ID),
        rank: RANK,
    }
}

fn frame(head: &Head, entries: &[Entry], key: Option<[u64; 2]>) -> Result<Vec<u8>> {
    let route = Route {
        source: Address::v4(PEER).words(),
        destination: Address::v4(OURS).words(),
        key,
    };
    let mut buffer = [0; MAX_LEN];
    let payload = echo::build(head, entries, &route, &mut buffer);
    paths::datagram(PEER, OURS, (PORT, PORT), payload)
}
