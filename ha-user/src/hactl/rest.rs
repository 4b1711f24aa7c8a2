//! `hactl mode maintenance`: whether somebody goes on serving.

use std::path::Path;

use super::Failure;
use crate::control::{
    client::ask,
    protocol::Request,
    report::{PreviewReport, RolesReport},
};

/// Whether each group whose roles are promoted here could be handed over.
pub(super) fn may(socket: &Path) -> Result<(), Failure> {
    let report: RolesReport = ask(socket, Request::Roles)?;
    let mut previews = Vec::new();
    for group in report.groups {
        if group.stance == "primary" {
            let request = Request::Preview {
                target: group.group,
                to: None,
            };
            previews.push(ask(socket, request)?);
        }
    }
    refused(&previews).map_or(Ok(()), |why| Err(Failure::NotDone(why)))
}

fn refused(previews: &[PreviewReport]) -> Option<String> {
    let stuck = previews.iter().find(|one| !one.obstacles.is_empty())?;
    Some(format!(
        "nobody would serve {0}: {1}. Nothing is changed; `hactl switchover {0} --dry-run` shows what would be done, and `hactl mode maintenance --force` stops the service",
        stuck.group,
        stuck.obstacles.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(group: &str, obstacles: &[&str]) -> PreviewReport {
        PreviewReport {
            group: group.to_owned(),
            to: None,
            obstacles: obstacles.iter().map(|&one| one.to_owned()).collect(),
            demote: Vec::new(),
            promote: Vec::new(),
        }
    }

    #[test]
    fn who_alone_can_serve_is_told_what_stops() {
        assert_eq!(refused(&[]), None);
        assert_eq!(refused(&[preview("db", &[])]), None);
        let told = refused(&[preview("web", &[]), preview("db", &["n2 is behind"])]);
        let told = told.expect("a refusal");
        assert!(told.contains("serve db: n2 is behind"), "{told}");
        assert!(told.contains("--force"), "{told}");
    }
}
