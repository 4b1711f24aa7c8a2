//! One fault, and what became of the writes.

use std::{fmt, thread, time::Duration};

use anyhow::Result;
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    eventually,
    mariadb::{Contents, Findings, Lag, Ledger, Outcome, Samples, catch_up, check, overlap},
    now,
};

use super::{Fault, Options, Promoter, stage::Stage};

/// Writes before the fault, and after the service is back.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(1);

/// How long until somebody acknowledges writes again.
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

/// How long the old primary may take to become a replica again.
const REJOIN_LIMIT: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Trial {
    /// From the fault to the first acknowledged write by the other server.
    pub(super) take_over: Option<Nanos>,
    /// The longest time without an acknowledgement.
    pub(super) gap: Option<Nanos>,
    /// Acknowledged writes a second before the fault.
    pub(super) rate: f64,
    pub(crate) acknowledged: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    /// What the server that is written to at the end has.
    pub(crate) findings: Findings,
    /// For how long both servers acknowledged writes, and for how long both had `read_only` off.
    pub(crate) both_wrote: Nanos,
    pub(super) both_open: Nanos,
    /// Whether the servers that were written to, directly asked, said so: else it proves nothing that both never did.
    pub(super) sampled: bool,
    /// Acknowledged by the former server after the other one had begun.
    pub(super) by_the_former: usize,
    /// How long the old primary took from the end of the fault until it was in sync; `None` when it did not by itself.
    pub(super) rejoined: Option<Nanos>,
    /// Whether both servers then had the same; meaningless without.
    pub(super) equal: bool,
}

impl Trial {
    /// Whether another trial can follow in the same stage.
    pub(crate) fn is_settled(&self) -> bool {
        self.rejoined.is_some() && self.equal && self.findings.is_clean()
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span =
            |span: Option<Nanos>| span.map_or_else(|| "never".to_owned(), |span| span.to_string());
        write!(
            formatter,
            "the other one after {}, longest gap {}; {:.0}/s, {} acknowledged, {} lost, {} twice, {} refused and \
             there; both wrote {}, both open {}; rejoined {}",
            span(self.take_over),
            span(self.gap),
            self.rate,
            self.acknowledged,
            self.findings.lost.len(),
            self.findings.twice.len(),
            self.findings.refused_and_there.len(),
            self.both_wrote,
            self.both_open,
            span(self.rejoined),
        )
    }
}

/// Runs one.
pub(super) fn run(stage: &mut Stage, fault: Fault, options: &Options) -> Result<Trial> {
    let first = stage.writers.next_id();
    let old = stage.settle()?;
    let new = 1 - old;
    let lag = match options.lag {
        Some(_) => Some(Lag::begin(&stage.servers.servers[new])?),
        None => None,
    };
    thread::sleep(BEFORE);
    let rate = stage.writers.ledger().rate();
    let at = fault.inject(stage, old)?;
    let limit = SERVICE_LIMIT.saturating_add(options.lag.unwrap_or_default());
    // Released by a thread of its own: whoever promotes meanwhile is looked at all the time.
    let release = options.lag.zip(lag).map(|(span, lag)| {
        thread::spawn(move || {
            thread::sleep(span);
            drop(lag);
        })
    });
    let new_id = stage.servers.servers[new].settings().server_id;
    let mut take_over = None;
    let moved = eventually(limit, "the other server acknowledges", || {
        take_over = stage.writers.ledger().first_acknowledged(new_id, at);
        Ok(take_over.is_some() || !fault.moves())
    });
    if moved.is_ok() {
        let begun = take_over.unwrap_or_else(now);
        stage.wait_for_flow(begun, limit)?;
        thread::sleep(AFTER);
    }
    if let Some(Err(panic)) = release.map(thread::JoinHandle::join) {
        std::panic::resume_unwind(panic);
    }
    fault.heal(stage, old)?;
    let healed = now();
    let primary = if take_over.is_some() { new } else { old };
    let rejoined = match stage.promoter {
        Promoter::Had => wait_rejoined(stage, primary, healed),
        Promoter::Keepalived => None,
    };
    stage.writers.pause()?;
    // They write, too.
    for sampler in &stage.samplers {
        sampler.pause();
    }
    let wrote: &[usize] = if take_over.is_some() {
        &[old, new]
    } else {
        &[old]
    };
    judge(stage, first, at, primary, rejoined, wrote).map(|trial| Trial {
        take_over: take_over.map(|done| done.since(at)),
        rate,
        ..trial
    })
}

fn wait_rejoined(stage: &Stage, primary: usize, healed: MonoNs) -> Option<Nanos> {
    let rejoined = eventually(REJOIN_LIMIT, "the old primary is in sync", || {
        let (primary, replica) = (
            &stage.servers.servers[primary],
            &stage.servers.servers[1 - primary],
        );
        Ok(!replica.is_writable()?
            && primary.is_writable()?
            && replica.replica_status("Slave_IO_Running")?.as_deref() == Some("Yes")
            && replica.replica_status("Slave_SQL_Running")?.as_deref() == Some("Yes")
            && (primary.settings().durability != ha_tests::mariadb::Durability::SemiSync
                || primary.status("Rpl_semi_sync_master_clients")? == "1"))
    });
    match rejoined {
        Ok(()) => Some(now().since(healed)),
        Err(error) => {
            eprintln!("not rejoined: {error:#}");
            None
        }
    }
}

/// Looks at what is there, once nobody writes; `wrote` are the servers that were written to since the last time.
pub(crate) fn judge(
    stage: &Stage,
    first: u64,
    at: MonoNs,
    primary: usize,
    rejoined: Option<Nanos>,
    wrote: &[usize],
) -> Result<Trial> {
    let ledger: Ledger = stage.writers.take_ledger();
    let (server, other) = (
        &stage.servers.servers[primary],
        &stage.servers.servers[1 - primary],
    );
    let mut findings = check(server, &ledger, first)?;
    let mut equal = false;
    if rejoined.is_some() {
        let [one, samples] = [server, other];
        catch_up(one, samples)?;
        let there = check(samples, &ledger, first)?;
        equal = there == findings && settled(stage, primary)?;
        if findings.is_clean() {
            findings = there;
        }
    }
    let seen: [Samples; 2] = stage
        .samplers
        .each_ref()
        .map(ha_tests::mariadb::Sampler::take);
    Ok(Trial {
        take_over: None,
        gap: ledger.longest_gap(at.before(Nanos::from_millis(100))),
        rate: 0.0,
        acknowledged: ledger.acknowledged().count(),
        refused: ledger.count(|outcome| matches!(outcome, Outcome::Refused(_))),
        unknown: ledger.count(|outcome| outcome == Outcome::Unknown),
        findings,
        both_wrote: overlap(&seen[0].attempts, &seen[1].attempts),
        both_open: overlap(&seen[0].flags, &seen[1].flags),
        sampled: wrote.iter().all(|index| seen[*index].saw_it_writable()),
        by_the_former: ledger.acknowledged_by_the_former(),
        rejoined,
        equal,
    })
}

/// Whether both servers come to have the same: a sampler's last write may still be under way.
fn settled(stage: &Stage, primary: usize) -> Result<bool> {
    let (server, other) = (
        &stage.servers.servers[primary],
        &stage.servers.servers[1 - primary],
    );
    let mut last = None;
    let equal = eventually(SERVICE_LIMIT, "both have the same", || {
        catch_up(server, other)?;
        let (one, two) = (Contents::of(server)?, Contents::of(other)?);
        let same = one.is_same(&two);
        last = Some((one, two));
        Ok(same)
    });
    if let Err(error) = &equal {
        eprintln!("not equal: {error:#}: {last:?}");
    }
    Ok(equal.is_ok())
}
