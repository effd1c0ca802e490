//! The false-alarm budget of a run: what each claim may spend, so that all together stay below one in a billion.
//!
//! Bonferroni with weights: valid under any dependence, and cheap, since what a verdict costs in seeds grows as ln(1/alpha).

/// The probability that a run over everything that ships raises any false alarm.
pub const RUN: f64 = 1e-9;

/// What of [`RUN`] is kept for placements and normalizers of users: they never loosen the suite's own claims.
pub const USERS: f64 = 1e-10;

/// Whose subject a claim is judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    BuiltIn,
    User,
}

impl Pool {
    /// What all claims together may spend.
    pub fn total(self) -> f64 {
        match self {
            Pool::BuiltIn => RUN - USERS,
            Pool::User => USERS,
        }
    }
}

/// What a claim of this weight may spend over all its figures in a run, the weights of all claims being `weights`.
pub fn share(pool: Pool, weight: f64, weights: f64) -> f64 {
    pool.total() * weight / weights
}

/// What each of `figures` figures of a share may spend.
pub fn split(share: f64, figures: usize) -> f64 {
    share / figures.max(1) as f64
}
