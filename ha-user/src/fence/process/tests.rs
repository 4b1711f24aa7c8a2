use std::sync::{Mutex, PoisonError};

use ha_core::plan::{Done, Observation, Order, StepSpec};
use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    fence::Fence,
    roles::{Fenced, Pending, Role},
};

const GROUP: &str = "db";
const LIMIT: Nanos = Nanos::from_millis(300);
const LONG: Duration = Duration::from_secs(30);

/// Remembers the steps that it was told to carry out, and fails those of a name.
struct Remembering {
    steps: Arc<Mutex<Vec<&'static str>>>,
    failing: &'static str,
}

impl Role for Remembering {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(order.step);
        let result = if order.step == self.failing {
            Err("it is to fail".to_owned())
        } else {
            Ok(Done::default())
        };
        Box::pin(std::future::ready(result))
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(std::future::ready(Observation::unknown("it is not asked")))
    }
}

fn ward(steps: Vec<StepSpec>, role: Remembering) -> Ward {
    let fenced = Fenced {
        group: GROUP.to_owned(),
        name: "role".to_owned(),
        steps,
        role: Box::new(role),
    };
    Ward::new(fenced, 0)
}

struct Bench {
    dir: tempfile::TempDir,
    fence: Fence,
    watch: Watch,
    steps: Arc<Mutex<Vec<&'static str>>>,
}

impl Bench {
    /// A daemon, of process 1, and its process that fences one role.
    fn new(failing: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("had.lock"), "1\n").unwrap();
        let fence = Fence::new().unwrap();
        let inbox = fence.0.theirs.try_clone().unwrap();
        let silence = Silence::new(dir.path().to_owned(), lock::holder_of(dir.path()));
        let steps = Arc::default();
        let role = Remembering {
            steps: Arc::clone(&steps),
            failing,
        };
        let forbid = StepSpec::change("forbid", Nanos::from_secs(1));
        let forbid = forbid.or(vec![StepSpec::change("kill", Nanos::from_secs(1))]);
        let wards = vec![ward(vec![forbid], role)];
        let watch = Watch::new(inbox, Path::new("/nowhere/had.toml"), silence, wards).unwrap();
        Self {
            dir,
            fence,
            watch,
            steps,
        }
    }

    fn steps(&self) -> Vec<&'static str> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.clone()
    }

    /// Lets it watch until some steps were carried out.
    async fn until(&mut self, wanted: &[&str]) {
        let deadline = Instant::now() + LONG;
        while self.steps() != wanted {
            assert!(Instant::now() < deadline, "{:?}", self.steps());
            let turn = timeout(Duration::from_millis(10), self.watch.run());
            if let Ok(ended) = turn.await {
                panic!("it has ended: {ended:?}");
            }
        }
    }

    /// Lets it watch until it ends.
    async fn end(self) -> Vec<&'static str> {
        let Self {
            dir: _dir,
            fence,
            mut watch,
            steps,
        } = self;
        drop(fence);
        timeout(LONG, watch.run()).await.expect("it ends").unwrap();
        steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test]
async fn a_daemon_that_is_silent_is_fenced_again_and_again() {
    let mut bench = Bench::new("none");
    let mut pulse = bench.fence.pulse();
    let armed_at = clock::now();
    bench.fence.arm(GROUP, LIMIT);
    bench.until(&["forbid"]).await;
    assert!(clock::now() >= armed_at.after(LIMIT));
    // Its other threads may have undone that; but not all the time.
    bench.until(&["forbid", "forbid"]).await;
    assert!(clock::now() >= armed_at.after(LIMIT).after(Nanos::from_secs(1)));
    // A new silence counts for itself.
    pulse.beat(clock::now());
    let heard_at = clock::now();
    bench.until(&["forbid"; 3]).await;
    assert!(clock::now() >= heard_at.after(LIMIT));
}

/// The newest of what it is told finds no room while this process is held up.
#[tokio::test]
async fn who_was_held_up_itself_listens_before_it_fences() {
    let mut bench = Bench::new("none");
    let mut pulse = bench.fence.pulse();
    bench.fence.arm(GROUP, LIMIT);
    bench.watch.read().unwrap();
    let late = clock::now().after(LIMIT.times(2));
    bench.watch.wakes_by = clock::now();
    assert!(bench.watch.is_late(late));
    bench.watch.excuse(late);
    bench.watch.fence_due(late);
    assert!(bench.watch.at_work.is_empty(), "nothing was heard yet");
    // A daemon that runs is heard.
    let soon = late.after(Nanos(LIMIT.0 / 3));
    pulse.beat(soon);
    bench.watch.read().unwrap();
    bench.watch.fence_due(late.after(LIMIT));
    assert!(bench.watch.at_work.is_empty());
    // One that does not is not excused twice.
    let late = soon.after(LIMIT.times(3));
    for later in [late, late.after(LIMIT)] {
        bench.watch.excuse(later);
        bench.watch.fence_due(later);
    }
    assert_eq!(bench.watch.at_work.len(), 1);
}

#[tokio::test]
async fn who_cannot_fence_and_has_no_daemon_gives_up_in_the_end() {
    let mut bench = Bench::new("kill");
    let role = Remembering {
        steps: Arc::clone(&bench.steps),
        failing: "kill",
    };
    let kill = vec![StepSpec::change("kill", Nanos::from_secs(1))];
    bench.watch.wards = vec![ward(kill, role)];
    bench.fence.arm(GROUP, Nanos::from_secs(3_600));
    bench.watch.read().unwrap();
    let Bench {
        dir: _dir,
        fence,
        mut watch,
        steps,
    } = bench;
    drop(fence);
    // It has tried for long.
    watch.orphaned = Some(
        clock::now()
            .before(WITHOUT_DAEMON)
            .after(Nanos::from_secs(2)),
    );
    timeout(LONG, watch.run()).await.expect("it ends").unwrap();
    let tried = steps.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert!(tried >= 1, "{tried}");
}

#[tokio::test]
async fn what_has_become_of_the_daemon_is_read_before_it_is_believed_to_hang() {
    let mut bench = Bench::new("none");
    let mut pulse = bench.fence.pulse();
    bench.fence.arm(GROUP, LIMIT);
    // Longer than the limit this process does not run, and the daemon does.
    let late = clock::now().after(LIMIT.times(2));
    pulse.beat(late);
    bench.watch.read().unwrap();
    bench.watch.fence_due(late);
    assert!(bench.watch.at_work.is_empty());
    assert_eq!(bench.watch.wards.len(), 1);
    bench.watch.fence_due(late.after(LIMIT.times(2)));
    assert_eq!(bench.watch.at_work.len(), 1);
}

#[tokio::test]
async fn the_hard_way_is_taken_and_tried_again() {
    let mut bench = Bench::new("kill");
    bench.until(&[]).await;
    let mut easy = Bench::new("forbid");
    easy.fence.arm(GROUP, LIMIT);
    easy.until(&["forbid", "kill"]).await;
    let role = Remembering {
        steps: Arc::clone(&bench.steps),
        failing: "kill",
    };
    let kill = vec![StepSpec::change("kill", Nanos::from_secs(1))];
    bench.watch.wards = vec![ward(kill, role)];
    bench.fence.arm(GROUP, LIMIT);
    bench.until(&["kill", "kill"]).await;
}

#[tokio::test]
async fn who_lost_its_daemon_fences_at_once_and_ends() {
    let mut bench = Bench::new("none");
    bench.fence.arm(GROUP, Nanos::from_secs(3_600));
    // It has read that.
    bench.watch.read().unwrap();
    assert_eq!(bench.end().await, ["forbid"]);
}

#[tokio::test]
async fn a_daemon_that_ends_in_order_is_not_fenced() {
    let bench = Bench::new("none");
    bench.fence.arm(GROUP, LIMIT);
    bench.fence.disarm(GROUP);
    assert!(bench.end().await.is_empty());
}

#[tokio::test]
async fn what_the_next_daemon_sees_to_is_left_to_it() {
    let bench = Bench::new("none");
    bench.fence.arm(GROUP, Nanos::from_secs(3_600));
    std::fs::write(bench.dir.path().join("had.lock"), "2\n").unwrap();
    assert!(bench.end().await.is_empty());
}
