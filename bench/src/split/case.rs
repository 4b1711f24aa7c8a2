//! The faults that might let two nodes speak for the VIP.

use std::fmt;

use crate::hang::End;

/// Heartbeats on each path that are lost before a daemon ends, at most.
const MOST_LOST: u64 = 3;

/// Whose frames to the other node are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The Active node's.
    FromActive,
    /// The Backup's.
    ToActive,
}

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// The Active node's daemon ends, and its last heartbeats were lost.
    End { how: End, lost: u64 },
    /// One direction of one cable or of both is cut for a while.
    Cut {
        lan: Option<Way>,
        direct: Option<Way>,
    },
}

/// Kinds of cases, for the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// The Active node's daemon is stopped, and goes on later
    Sigstop,
    /// It is killed, and started again
    Sigkill,
    /// One direction between the nodes is cut
    OneWay,
}

impl Fault {
    /// Its cases, for nodes with a cable of their own beside the LAN or without.
    pub(super) fn cases(self, direct: bool) -> Vec<Case> {
        match self {
            Self::Sigstop => ends(End::Stop),
            Self::Sigkill => ends(End::Kill),
            Self::OneWay => cuts(direct),
        }
    }
}

fn ends(how: End) -> Vec<Case> {
    (0..=MOST_LOST)
        .map(|lost| Case::End { how, lost })
        .collect()
}

fn cuts(direct: bool) -> Vec<Case> {
    let each = [None, Some(Way::FromActive), Some(Way::ToActive)];
    let mut cases = Vec::new();
    for on_direct in each.into_iter().take(if direct { 3 } else { 1 }) {
        for lan in each {
            if lan.is_some() || on_direct.is_some() {
                cases.push(Case::Cut {
                    lan,
                    direct: on_direct,
                });
            }
        }
    }
    cases
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |way: Way| match way {
            Way::FromActive => "A->B",
            Way::ToActive => "B->A",
        };
        let text = match *self {
            Self::End { how, lost } => {
                let name = match how {
                    End::Stop => "SIGSTOP",
                    End::Kill => "SIGKILL",
                };
                format!("{name}, last {lost} lost")
            }
            Self::Cut { lan, direct } => {
                let lan = lan.map(|lan| format!("LAN {}", way(lan)));
                let direct = direct.map(|direct| format!("channel {}", way(direct)));
                let both = [lan, direct].into_iter().flatten();
                format!("cut {}", both.collect::<Vec<_>>().join(", "))
            }
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_of_each_cable_is_cut() {
        let names = |direct| {
            let cases = Fault::OneWay.cases(direct);
            cases.iter().map(Case::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["cut LAN A->B", "cut LAN B->A"]);
        assert_eq!(
            names(true),
            [
                "cut LAN A->B",
                "cut LAN B->A",
                "cut channel A->B",
                "cut LAN A->B, channel A->B",
                "cut LAN B->A, channel A->B",
                "cut channel B->A",
                "cut LAN A->B, channel B->A",
                "cut LAN B->A, channel B->A",
            ]
        );
        let ends = Fault::Sigkill.cases(true);
        let names: Vec<String> = ends.iter().map(Case::to_string).collect();
        assert_eq!(
            names.last().map(String::as_str),
            Some("SIGKILL, last 3 lost")
        );
        assert_eq!(names.len(), 4);
    }
}
