//! The daemon is killed after each record of each plan, and starts again.

use ha_core::{
    Manner,
    plan::{Durability, Record, Stance, recover},
};

use crate::node::{Node, able, config, database, disk_roles, mysql, purposes, role};

#[test]
fn killed_anywhere_it_is_a_standby_in_the_end() {
    for roles in [
        disk_roles(),
        vec![role("mariadb", mysql(Durability::SemiSync))],
    ] {
        let run = |killed_at: Option<usize>| {
            let mut node = Node::new("n1", config("n1", roles.clone()));
            node.killed_at = killed_at;
            node.observe(0, database(1));
            node.handle(ha_core::plan::PlanInput::AcceptLoss);
            node.promote(true);
            node.demote(Manner::Forced);
            node
        };
        let whole = run(None).journal.len();
        assert!(whole > 8, "{whole}");
        for killed_at in 1..=whole {
            let mut killed = run(Some(killed_at));
            killed.killed_at = None;
            let mut node = killed.restarted();
            assert_eq!(node.stance(), Stance::Standby, "killed at {killed_at}");
            let was_standby = matches!(
                killed.journal.last(),
                Some(Record::End {
                    stance: Stance::Standby,
                    ..
                })
            );
            assert_eq!(node.steps.is_empty(), was_standby, "killed at {killed_at}");
            node.observe_all(able());
        }
    }
}

#[test]
fn a_node_without_a_journal_demotes_first() {
    let found = recover([].iter());
    let node = Node::found("n1", config("n1", disk_roles()), found, Default::default());
    assert_eq!(node.stance(), Stance::Standby);
    assert_eq!(node.steps.len(), 3);
}

#[test]
fn epochs_survive_and_only_grow() {
    let mut node = Node::new("n1", config("n1", disk_roles()));
    for _ in 0..3 {
        node.observe_all(able());
        node.promote(true);
        node.demote(Manner::Forced);
    }
    let mut again = node.restarted();
    assert_eq!(again.conductor.status(again.now).epoch, 3);
    again.observe_all(able());
    again.promote(true);
    assert_eq!(again.conductor.status(again.now).epoch, 4);
    assert_eq!(purposes(&again.journal).len(), 1);
}
