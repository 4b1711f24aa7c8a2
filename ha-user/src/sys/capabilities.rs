//! What the process is allowed to do (capabilities(7)).

use rustix::thread::{CapabilitySet, capabilities};

/// The capabilities without which the daemon cannot serve, by name, that this process lacks: for addresses and
/// sockets, and for `programs` in the kernel. None where that cannot be found out.
#[must_use]
pub fn missing(programs: bool) -> Vec<&'static str> {
    capabilities(None).map_or_else(|_| Vec::new(), |sets| lacking(sets.effective, programs))
}

/// CAP_SYS_ADMIN includes the two that Linux 5.8 took out of it.
fn lacking(effective: CapabilitySet, programs: bool) -> Vec<&'static str> {
    let always = [
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ];
    let for_programs = [
        ("CAP_BPF", CapabilitySet::BPF | CapabilitySet::SYS_ADMIN),
        (
            "CAP_PERFMON",
            CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN,
        ),
    ];
    always
        .into_iter()
        .chain(for_programs.into_iter().filter(|_| programs))
        .filter(|(_, any_of)| !effective.intersects(*any_of))
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_missed() {
        let none = CapabilitySet::empty();
        let net = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
        assert_eq!(lacking(none, false), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert_eq!(lacking(net, true), ["CAP_BPF", "CAP_PERFMON"]);
        assert!(lacking(net, false).is_empty());
        assert!(lacking(net | CapabilitySet::SYS_ADMIN, true).is_empty());
        assert_eq!(
            lacking(CapabilitySet::all() - CapabilitySet::NET_RAW, true),
            ["CAP_NET_RAW"]
        );
    }
}
