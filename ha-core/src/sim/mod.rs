//! The simulator.

/// Rules that are broken on purpose, to prove that the checkers notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutations {
    /// The gate's deadline is 20 % longer.
    pub gate_stretch: bool,
    /// The gate counts from a time taken after the advert was sent.
    pub stamp_after_send: bool,
    /// A node that is late does not step down.
    pub ignore_late: bool,
}
