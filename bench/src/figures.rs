//! Order statistics of spans of time.

use anyhow::{Result, ensure};
use ha_common::Nanos;
use serde_json::{Value, json};

/// Median, 95th and 99th percentile and maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) count: usize,
    pub(crate) median: Nanos,
    pub(crate) p95: Nanos,
    pub(crate) p99: Nanos,
    pub(crate) max: Nanos,
}

impl Figures {
    /// `None` without any value.
    pub(crate) fn of(values: &[Nanos]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        Some(Self {
            count: sorted.len(),
            median: nearest_rank(&sorted, 50)?,
            p95: nearest_rank(&sorted, 95)?,
            p99: nearest_rank(&sorted, 99)?,
            max: *sorted.last()?,
        })
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "count": self.count,
            "median_ms": millis(self.median),
            "p95_ms": millis(self.p95),
            "p99_ms": millis(self.p99),
            "max_ms": millis(self.max),
        })
    }
}

/// The smallest value that at least `percent` of all values do not exceed.
fn nearest_rank(sorted: &[Nanos], percent: usize) -> Option<Nanos> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Says which bounds are missed; with `check` that is an error.
pub(crate) fn verdict(misses: &[String], check: bool) -> Result<()> {
    for miss in misses {
        println!("missed: {miss}");
    }
    ensure!(
        !check || misses.is_empty(),
        "{} bounds are missed",
        misses.len()
    );
    Ok(())
}

/// As a number of milliseconds, for JSON, plots and tables.
#[expect(
    clippy::cast_precision_loss,
    reason = "spans of minutes fit a double's 53 bits"
)]
pub(crate) fn millis(span: Nanos) -> f64 {
    span.0 as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ranks() {
        let values: Vec<Nanos> = (1..=20).rev().map(Nanos).collect();
        let figures = Figures::of(&values).unwrap();
        assert_eq!(
            figures,
            Figures {
                count: 20,
                median: Nanos(10),
                p95: Nanos(19),
                p99: Nanos(20),
                max: Nanos(20)
            }
        );
        assert_eq!(Figures::of(&[]), None);
        assert_eq!(Figures::of(&[Nanos(7)]).unwrap().p95, Nanos(7));
    }
}
