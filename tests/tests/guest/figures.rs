//! What a row of measurements says.

use std::fmt;

/// Median and quartiles of a row of milliseconds.
pub(crate) struct Figures {
    pub(crate) median: f64,
    quartiles: [f64; 2],
    /// The median's standard error, as that of normally distributed figures with such quartiles.
    pub(crate) error: f64,
}

/// Between the quartiles of the normal distribution, in standard deviations.
const BETWEEN_QUARTILES: f64 = 1.349;

/// The standard error of a median, in those of a mean.
const OF_MEDIAN: f64 = 1.253;

impl Figures {
    pub(crate) fn of(mut row: Vec<f64>) -> Self {
        row.sort_by(f64::total_cmp);
        let at = |part: usize| row.get(row.len() * part / 4).copied().unwrap_or(f64::NAN);
        let quartiles = [at(1), at(3)];
        let count = u32::try_from(row.len()).map_or(f64::NAN, f64::from);
        let deviation = (quartiles[1] - quartiles[0]) / BETWEEN_QUARTILES;
        Self {
            median: at(2),
            quartiles,
            error: OF_MEDIAN * deviation / count.sqrt(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            median,
            quartiles: [lower, upper],
            error,
        } = self;
        write!(
            formatter,
            "median {median:.1} ms ± {error:.1}, quartiles {lower:.1} and {upper:.1} ms"
        )
    }
}
