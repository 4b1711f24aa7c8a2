//! Keys that somebody types who comes from keepalived or Linux-HA, and what to write instead.
//!
//! The nearest key of ours can mean the opposite: `nopreempt` is near to `preempt`.

/// What to write instead of another daemon's key. keepalived has many keys twice, the global one with
/// `vrrp_` in front.
pub(super) fn hint(key: &str) -> Option<&'static str> {
    let key = key.strip_prefix("vrrp_").unwrap_or(key);
    FOREIGN
        .iter()
        .find(|(names, _)| names.contains(&key))
        .map(|(_, hint)| *hint)
        .or_else(|| {
            FAMILIES
                .iter()
                .find(|(prefix, _)| key.starts_with(prefix))
                .map(|(_, hint)| *hint)
        })
}

/// Keys of keepalived, then of Heartbeat and Pacemaker's IPaddr2.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &["nopreempt", "no_preempt"],
        "remove it: `preempt` is off unless you set it",
    ),
    (
        &["state"],
        "remove it: every node starts as Backup, and the priority decides",
    ),
    (&["virtual_router_id"], "write `vrid`"),
    (
        &["router_id"],
        "write `name` in [node]; the number of a virtual router is `vrid` in [[instance]]",
    ),
    (
        &["advert_int"],
        "write `advert_interval` with its unit, as \"1s\"",
    ),
    (
        &["virtual_ipaddress"],
        "write `vips`, as [\"192.168.33.100/24\"]",
    ),
    (
        &["virtual_ipaddress_excluded"],
        "write `extra_vips`, as [\"192.168.33.110/24\"]",
    ),
    (&["unicast_peer"], "write `peers`, as [\"192.168.33.102\"]"),
    (&["unicast_src_ip", "mcast_src_ip"], "write `source`"),
    (
        &["mcast_dst_ip", "mcast_group4"],
        "remove it: without `peers` adverts go to 224.0.0.18",
    ),
    (&["unicast_ttl"], "remove it: the TTL is always 255"),
    (&["version"], "write `version` in [[instance]]"),
    (&["instance"], "write [[instance]], with the name as `name`"),
    (
        &["sync_group"],
        "write [[group]] with a `name`, and that name as `group` in its instances",
    ),
    (&["global_defs"], "write [node] and [dataplane]"),
    (
        &["startup_delay"],
        "write `start_delay` in [node] with its unit, as \"5s\"",
    ),
    (&["rt_priority"], "write `realtime_priority` in [dataplane]"),
    (
        &["down_timer_adverts"],
        "remove it: a Backup waits for three adverts and Skew_Time, as the RFCs say",
    ),
    (
        &["garp_master_delay"],
        "write `announce = { repeat_after = \"5s\" }`",
    ),
    (&["garp_master_repeat"], "write `announce = { count = 5 }`"),
    (
        &["garp_master_refresh"],
        "write `announce = { refresh = \"60s\" }`",
    ),
    (
        &["garp_interval"],
        "write `announce = { interval = \"10ms\" }`",
    ),
    (
        &["authentication", "auth_type", "auth_pass"],
        "remove it, also from the peers: had has no passwords, and discards VRRPv2 adverts with one",
    ),
    (&["script", "process"], CHECKS),
    (
        &["script_user"],
        "write `user` in the [[check]] with `kind = \"script\"`",
    ),
    (
        &["enable_script_security"],
        "remove it: a script that others than root and its user may write is never run",
    ),
    (
        &["track_interface"],
        "write `track = [{ interface = \"eth1\" }]`; the instance's own `interface` is watched anyway",
    ),
    (
        &["interface_up_down_delays"],
        "write [[interface]] with `name`, `up_delay` and `down_delay`",
    ),
    (
        &["dont_track_primary"],
        "remove it: an instance whose interface fails goes to Fault",
    ),
    (&["bfd_instance"], "write [[channel]] with `kind = \"bfd\"`"),
    (
        &["track_bfd"],
        "write the name of a [[channel]] in `channels`: a dead path tells of the peer, and puts this node in no Fault",
    ),
    (
        &["virtual_routes", "virtual_rules"],
        "remove it: this version of had moves addresses, no routes or rules",
    ),
    (
        &["use_vmac"],
        "write `virtual_mac = true`; no interface of its own is made for it",
    ),
    (
        &["vmac_xmit_base"],
        "remove it: with `virtual_mac` there is no interface beside the instance's own",
    ),
    (
        &["use_ipvlan"],
        "remove it: VIPs are on the instance's own interface",
    ),
    (
        &["smtp_alert", "notification_email", "smtp_server"],
        "remove it: this version of had sends no mail; see its log or `hactl events`",
    ),
    (
        &["virtual_server", "real_server", "lvs_sync_daemon"],
        "remove it: had balances no load",
    ),
    (
        &["auto_failback"],
        "write `preempt`: true takes the service back, false (the default) leaves it where it is",
    ),
    (
        &["keepalive"],
        "write `advert_interval` with its unit, as \"1s\"",
    ),
    (
        &["deadtime", "warntime"],
        "remove it: a Backup waits for three times `advert_interval` and Skew_Time",
    ),
    (
        &["initdead"],
        "write `start_delay` in [node] with its unit, as \"5s\"",
    ),
    (&["ucast"], "write `peers`, as [\"192.168.33.102\"]"),
    (
        &["bcast", "mcast"],
        "remove it: without `peers` adverts go by multicast",
    ),
    (&["nic"], "write `interface`"),
    (
        &["ip", "cidr_netmask"],
        "write `vips` with the prefix length, as [\"192.168.33.100/24\"]",
    ),
];

const CHECKS: &str =
    "write a [[check]], and name it in the instance's `track`, as [{ check = \"mysql\" }]";

/// Keys that begin alike and have one answer, behind those that have their own.
const FAMILIES: &[(&str, &str)] = &[
    (
        "garp_",
        "remove it: `announce` says all that can be set (count, interval, repeat_after, refresh)",
    ),
    (
        "notify",
        "remove it; what has to be done before the addresses are served or let go of is a [[role]] with kind = \"script\", named in `roles` of a [[group]] (docs/keepalived.md)",
    ),
    ("track_", CHECKS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_key_has_the_hint_of_the_instance_s() {
        assert!(hint("garp_master_delay").is_some());
        assert_eq!(hint("vrrp_garp_master_delay"), hint("garp_master_delay"));
    }

    #[test]
    fn what_has_its_own_answer_does_not_get_its_family_s() {
        assert_ne!(hint("track_interface"), hint("track_script"));
        assert_ne!(hint("garp_master_delay"), hint("garp_lower_prio_delay"));
    }

    #[test]
    fn other_keys_have_no_hint() {
        assert_eq!(hint("colour"), None);
        assert_eq!(hint("prioritty"), None);
    }
}
