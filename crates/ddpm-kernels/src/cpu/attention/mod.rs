//! softmax(q·kᵀ/√d)·v without the matrix of all scores.
//!
//! A strip of query rows meets all keys at once, so that its scores, a few hundred kilobytes, stay in
//! the cache of one core. For the gradient only each row's log-sum-exp is kept, from which the strip's
//! weights are computed again (Rabe & Staats 2021; Dao et al. 2022).

mod backward;
mod forward;
mod sizes;

pub use backward::backward;
pub use forward::forward;
pub use sizes::Attention;
