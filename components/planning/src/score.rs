//! Numbers for people: scores with four places. Pure.

/// A score with four places after the point.
pub(crate) fn rounded(score: f64) -> f64 {
    (score * 10_000.0).round() / 10_000.0
}
