//! Of databases: what can be lost with them, and what their servers should have set otherwise.

use std::pin::Pin;

use ha_core::tracking::{Effect, Source};

use crate::{
    config::{Bootstrap, CheckKind, Config, GaleraRole, MysqlRole, Role, RoleKind, ServerProcess},
    net::links::Table,
    roles::{binlog_findings, galera, mysql, sync_findings},
};

/// Asks this node's servers.
pub(super) fn of(config: &Config, table: &Table) -> Vec<String> {
    let roles = config.roles.iter().enumerate();
    let told = roles.map(|(index, role)| match &role.kind {
        RoleKind::Mysql(mysql) => {
            let found = loss(mysql).map(str::to_owned).into_iter();
            let found = found.chain(elsewhere(mysql, table));
            let backs_up = backs_up(config, index);
            let asked = asked(Box::pin(mysql::findings(mysql, backs_up)));
            all(role, found.chain(asked))
        }
        RoleKind::Galera(galera) => {
            let found = votes(config, index, galera).into_iter();
            all(role, found.chain(asked(Box::pin(galera::findings(galera)))))
        }
        RoleKind::Binlog(binlog) => {
            let found = binlog_findings(binlog, process(config, index));
            all(role, found.into_iter())
        }
        RoleKind::Sync(sync) => all(role, sync_findings(sync).into_iter()),
        _ => Vec::new(),
    });
    told.flatten().collect()
}

/// The roles of the same group.
fn neighbours(config: &Config, index: usize) -> impl Iterator<Item = &RoleKind> {
    let mut groups = config.groups.iter();
    let group = groups.find(move |group| group.roles.contains(&index));
    let roles = group.into_iter().flat_map(|group| &group.roles);
    roles.filter_map(|role| Some(&config.roles.get(*role)?.kind))
}

/// The process of the database in the same group.
fn process(config: &Config, index: usize) -> Option<&ServerProcess> {
    neighbours(config, index).find_map(|kind| match kind {
        RoleKind::Mysql(mysql) => Some(&mysql.process),
        _ => None,
    })
}

/// Whether a role of the same group purges the binary logs.
fn backs_up(config: &Config, index: usize) -> bool {
    neighbours(config, index).any(|kind| matches!(kind, RoleKind::Binlog(_)))
}

/// An address of another node, or of nobody. Nothing where this node's addresses are not known.
fn elsewhere(role: &MysqlRole, table: &Table) -> Option<String> {
    let ip = role.replication_address.ip();
    let known = table.links().next().is_some();
    let here = ip.is_loopback() || table.links().any(|link| link.has(ip));
    (known && !here).then(|| {
        format!(
            "no interface of this node has `replication_address` {ip} at present, and the other nodes' replicas come there: write an address of this node, unless it appears later or is translated on the way"
        )
    })
}

fn all(role: &Role, found: impl Iterator<Item = String>) -> Vec<String> {
    let told = found.map(|text| format!("[[role]] \"{}\": {text}", role.name));
    told.collect()
}

/// What the configuration does not promise.
fn loss(role: &MysqlRole) -> Option<&'static str> {
    (!role.semi_sync).then_some(
        "with `durability = \"async\"` a take-over loses the writes that were acknowledged and had not reached the other node; \"semi-sync\" loses none",
    )
}

/// Who decides in a cluster of two which node goes on.
fn votes(config: &Config, index: usize, role: &GaleraRole) -> Vec<String> {
    let mut groups = config.groups.iter().enumerate();
    let Some((place, group)) = groups.find(|(_, group)| group.roles.contains(&index)) else {
        return Vec::new();
    };
    let members = config.instances.iter();
    let members: Vec<_> = members.filter(|one| one.group == Some(place)).collect();
    if members.iter().any(|one| one.peers.len() > 1) {
        return Vec::new();
    }
    if role.bootstrap == Bootstrap::Never {
        return vec![
            "of two nodes none goes on when the other one dies: writes fail until that is back, or until a person runs `hactl db bootstrap`. Let a third node vote (garbd needs no data); or write `bootstrap = \"alone\"`, with an arbitrator"
                .to_owned(),
        ];
    }
    let mut told = vec![
        "of two nodes the survivor goes on alone: where both live and reach the arbitrator, and nothing passes between them on any path, both do, and the writes of one of them are lost when they are put together. A third vote (garbd needs no data) rules that out"
            .to_owned(),
    ];
    let tracks = members
        .iter()
        .flat_map(|one| &one.track)
        .chain(&group.track);
    for track in tracks.filter(|track| track.effect == Effect::Veto) {
        let Source::Check(name) = &track.source else {
            continue;
        };
        let mut checks = config.checks.iter();
        let is_galera = |kind: &CheckKind| matches!(kind, CheckKind::Galera(_));
        if checks.any(|check| check.name == *name && is_galera(&check.kind)) {
            told.push(format!(
                "check {name} is down as long as the survivor has not gone on alone, which keeps it from that: track a check of kind \"mysql\" in its place; the role looks at the cluster itself"
            ));
        }
    }
    told
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + 'a>>;

fn asked(findings: Asking<'_>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(findings),
        Err(error) => Err(error.to_string()),
    };
    found.unwrap_or_else(|why| {
        vec![format!(
            "whether the server is set up as it has to be is not known: {why}"
        )]
    })
}

#[cfg(test)]
mod tests {
    use crate::{
        config::tests::databases::{with_galera, with_role},
        net::links::{Link, Table},
    };

    fn of(config: &crate::config::Config) -> Vec<String> {
        super::of(config, &Table::default())
    }

    #[test]
    fn an_address_for_replicas_that_no_interface_has_is_told() {
        let rest = "unit = \"mariadb.service\"\nsocket = \"/nowhere/mysqld.sock\"\n";
        let config = with_role(rest);
        let told = |net: &str| {
            let link = Link {
                name: "eth0".to_owned(),
                addresses: [net.parse().unwrap()].into(),
                ..Link::default()
            };
            super::of(&config, &[link].into_iter().collect()).join("\n")
        };
        let other = told("10.0.0.2/24");
        assert!(
            other.contains("has `replication_address` 10.0.0.1 at"),
            "{other}"
        );
        assert!(!told("10.0.0.1/24").contains("replication_address"));
    }

    #[test]
    fn what_can_be_lost_and_a_server_that_is_not_there_are_told() {
        let rest = "unit = \"mariadb.service\"\nsocket = \"/nowhere/mysqld.sock\"\n";
        let told = of(&with_role(rest));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("is not known: nobody listens"), "{told:?}");
        let told = of(&with_role(&format!("{rest}durability = \"async\"\n")));
        assert!(told[0].contains("loses the writes"), "{told:?}");
    }
    #[test]
    fn a_cluster_of_two_is_told_what_can_be_lost_and_when() {
        let rest = "socket = \"/nowhere/mysqld.sock\"\n";
        let told = of(&with_galera(rest, "mysql"));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("none goes on when the other one dies"),
            "{told:?}"
        );
        assert!(told[1].contains("is not known: nobody listens"), "{told:?}");
        let alone = format!("{rest}bootstrap = \"alone\"\n");
        let told = of(&with_galera(&alone, "mysql"));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("both do"), "{told:?}");
        let told = of(&with_galera(&alone, "galera"));
        assert!(told[1].contains("keeps it from that"), "{told:?}");
    }
}
