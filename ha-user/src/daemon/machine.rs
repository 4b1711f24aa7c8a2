//! What of this machine is at odds with a configuration: processors that it does not have, a kernel that may
//! withhold the processor from the engine thread for longer than a gate stays open, and a clock too fast or slow for
//! leases.

use std::{fs, path::Path};

use ha_common::Nanos;

use crate::{config::Config, sys::slew};

const ONLINE: &str = "/sys/devices/system/cpu/online";
const RT_RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";
const RT_PERIOD: &str = "/proc/sys/kernel/sched_rt_period_us";

/// Adverts that a gate outlives.
const MULTIPLIER: u64 = 3;

/// What to say of `dataplane.cpu_affinity`, if anything.
pub(super) fn offline(config: &Config) -> Option<String> {
    let online = fs::read_to_string(ONLINE).ok()?;
    let online = online.trim();
    let absent: Vec<String> = config
        .dataplane
        .cpu_affinity
        .iter()
        .filter(|cpu| !is_listed(**cpu, online))
        .map(u32::to_string)
        .collect();
    (!absent.is_empty()).then(|| {
        format!(
            "dataplane.cpu_affinity: CPU {} is not online; those that are: {online}",
            absent.join(", ")
        )
    })
}

/// What to say of the kernel's limit for real-time threads, if anything.
pub(super) fn throttled(config: &Config) -> Option<String> {
    let read = |path: &str| -> Option<i64> {
        let text = fs::read_to_string(Path::new(path)).ok()?;
        text.trim().parse().ok()
    };
    let release = rustix::system::uname();
    if !throttles(&release.release().to_string_lossy()) {
        return None;
    }
    throttled_by(config, read(RT_RUNTIME)?, read(RT_PERIOD)?)
}

/// Whether a kernel of this release obeys that limit: before 6.12, when the fair server took its place.
fn throttles(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(6), Some(12))
}

/// `runtime_us` < 0: there is no limit.
fn throttled_by(config: &Config, runtime_us: i64, period_us: i64) -> Option<String> {
    let pause_us = u64::try_from(period_us.checked_sub(runtime_us)?).ok()?;
    let pause = Nanos::from_micros(pause_us);
    let shortest = config
        .instances
        .iter()
        .map(|instance| instance.advert_interval.times(MULTIPLIER))
        .min()?;
    if config.dataplane.realtime_priority == 0 || runtime_us < 0 || pause < shortest {
        return None;
    }
    Some(format!(
        "where real-time threads use up a CPU, the kernel withholds it from all of them, had's included, for {pause} at a time (kernel.sched_rt_runtime_us = {runtime_us} of {period_us}), and a gate closes after {shortest}: where other programs have such threads, set it to -1, or give the engine thread a CPU of its own (dataplane.cpu_affinity)"
    ))
}

/// What to say of the clock's rate, if anything.
pub(super) fn slewed(config: &Config) -> Option<String> {
    let relies = config
        .instances
        .iter()
        .any(|instance| instance.heartbeat.is_some());
    relies.then(slew::advice).flatten()
}

/// Whether a list such as "0-3,6" has a processor.
fn is_listed(cpu: u32, list: &str) -> bool {
    list.split(',').any(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        match (low.parse::<u32>(), high.parse::<u32>()) {
            (Ok(low), Ok(high)) => (low..=high).contains(&cpu),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::for_tests;

    fn config(lines: &str) -> Config {
        for_tests(&format!(
            "[dataplane]\n{lines}\n[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\nsource = \"192.168.33.101\"\nadvert_interval = \"10ms\"\n"
        ))
    }

    #[test]
    fn lists() {
        assert!(is_listed(0, "0") && is_listed(2, "0-3") && is_listed(6, "0-3,6"));
        assert!(!is_listed(4, "0-3,6") && !is_listed(1, "") && !is_listed(1, "0,2-3"));
    }

    #[test]
    fn a_processor_that_is_not_there_is_named() {
        assert_eq!(offline(&config("cpu_affinity = [0]")), None);
        let said = offline(&config("cpu_affinity = [0, 1023]")).expect("nobody has so many");
        assert!(said.contains("CPU 1023 is not online"), "{said}");
    }

    #[test]
    fn kernels_with_a_fair_server_do_not_throttle() {
        assert!(
            throttles("5.15.0-91-generic") && throttles("6.1.0-56-amd64") && throttles("6.11.9")
        );
        assert!(!throttles("6.12.0") && !throttles("6.18.44+deb") && !throttles("7.0"));
    }

    #[test]
    fn a_pause_that_outlasts_a_gate_is_told() {
        let ordinary = config("");
        let said = throttled_by(&ordinary, 950_000, 1_000_000).expect("50 ms against 30");
        assert!(
            said.contains("50.000 ms") && said.contains("30.000 ms"),
            "{said}"
        );
        assert_eq!(throttled_by(&ordinary, 980_000, 1_000_000), None);
        assert_eq!(throttled_by(&ordinary, -1, 1_000_000), None);
        let unhurried = config("realtime_priority = 0");
        assert_eq!(throttled_by(&unhurried, 950_000, 1_000_000), None);
    }
}
