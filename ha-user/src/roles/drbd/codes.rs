//! What the exit codes of `drbdadm` and `drbdsetup` mean.

use crate::checks::tool::Ended;

/// Of `drbdsetup events2`, and of everything else that asks for a resource that is not there.
pub(super) const NO_SUCH_RESOURCE: i32 = 10;

/// DRBD's kernel says no to a change of state. It says yes later, if what it names passes: a peer that is Primary, a
/// device that is in use, a quorum that is missing.
const REFUSED: i32 = 11;

/// What a program that said no has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may say yes the next time.
    Passing(String),
    /// It will not.
    Final(String),
}

/// `Ok(None)`: it said yes. `Err`: it had not ended in time; `before` is what it said the last time. One that did not run,
/// as where an earlier one that was killed has not ended yet, may run the next time.
pub(super) fn of_code(
    ended: Result<Result<Ended, String>, String>,
    before: Option<String>,
) -> Result<Option<Refusal>, String> {
    let ended = match ended {
        Ok(Ok(ended)) => ended,
        Ok(Err(why)) => return Ok(Some(Refusal::Passing(why))),
        // Its time was over: what it said before tells more.
        Err(why) => return Err(before.unwrap_or(why)),
    };
    Ok(judge(ended.status.code(), &ended.said))
}

fn judge(code: Option<i32>, said: &str) -> Option<Refusal> {
    let words = |meaning: &str| match said {
        "" => meaning.to_owned(),
        said => format!("{meaning} ({said})"),
    };
    Some(match code {
        Some(0) => return None,
        Some(REFUSED) => Refusal::Passing(words("DRBD refuses")),
        Some(5) => Refusal::Final(words("this node's data are outdated, or worse")),
        Some(10 | 20) => Refusal::Final(words(
            "the configuration does not fit: see: drbdadm adjust --dry-run",
        )),
        Some(16) => Refusal::Final(words("it has no disk here: run: drbdadm attach")),
        Some(17) => Refusal::Final(words(
            "no node that can be reached has data that are surely the newest, or the peer could not be marked as outdated",
        )),
        Some(code) => Refusal::Final(words(&format!("exit code {code}"))),
        None => Refusal::Final(words("its tool was killed")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_change_of_state_is_tried_again() {
        assert_eq!(judge(Some(0), ""), None);
        let said = "State change failed: (-1) Multiple primaries not allowed by config";
        assert_eq!(
            judge(Some(11), said),
            Some(Refusal::Passing(format!("DRBD refuses ({said})")))
        );
        for code in [1, 5, 10, 16, 17, 20] {
            assert!(matches!(judge(Some(code), ""), Some(Refusal::Final(_))));
        }
        assert!(matches!(judge(None, ""), Some(Refusal::Final(_))));
        let busy = "an earlier drbdadm does not end".to_owned();
        assert_eq!(
            of_code(Ok(Err(busy.clone())), None),
            Ok(Some(Refusal::Passing(busy)))
        );
        assert!(of_code(Err("not in time".to_owned()), None).is_err());
        let Some(Refusal::Final(why)) = judge(Some(17), "(-2) Need access to UpToDate data") else {
            panic!("final");
        };
        assert!(why.contains("Need access to UpToDate data"), "{why}");
    }
}
