//! Of databases: what can be lost with them, and what their servers should have set otherwise.

use crate::{
    config::{Config, MysqlRole, Role, RoleKind},
    roles::mysql::findings,
};

/// Asks this node's servers.
pub(super) fn of(config: &Config) -> Vec<String> {
    let databases = config.roles.iter().filter_map(|role| match &role.kind {
        RoleKind::Mysql(mysql) => Some((role, &**mysql)),
        _ => None,
    });
    databases
        .flat_map(|(role, mysql)| {
            let found = loss(mysql).map(str::to_owned).into_iter();
            found.chain(asked(mysql)).map(|text| told(role, &text))
        })
        .collect()
}

fn told(role: &Role, text: &str) -> String {
    format!("[[role]] \"{}\": {text}", role.name)
}

/// What the configuration does not promise.
fn loss(role: &MysqlRole) -> Option<&'static str> {
    (!role.semi_sync).then_some(
        "with `durability = \"async\"` a take-over loses the writes that were acknowledged and had not reached the other node; \"semi-sync\" loses none",
    )
}

fn asked(role: &MysqlRole) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let found = match runtime {
        Ok(runtime) => runtime.block_on(findings(role)),
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
    use crate::config::tests::databases::with_role;

    #[test]
    fn what_can_be_lost_and_a_server_that_is_not_there_are_told() {
        let rest = "unit = \"mariadb.service\"\nsocket = \"/nowhere/mysqld.sock\"\n";
        let told = super::of(&with_role(rest));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("is not known: nobody listens"), "{told:?}");
        let told = super::of(&with_role(&format!("{rest}durability = \"async\"\n")));
        assert!(told[0].contains("loses the writes"), "{told:?}");
    }
}
