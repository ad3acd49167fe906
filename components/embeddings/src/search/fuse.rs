//! Putting two rankings into one by the places things have in them, whatever their scores mean.

use std::collections::BTreeMap;

/// How little the first places count more than those behind them.
const FLATNESS: f64 = 60.0;

/// Ids with their fused score, the best first. `weight` is the second ranking's, from 0 to 1.
///
/// ```
/// use embeddings::search::fuse::fuse;
/// let fused = fuse(&["a", "b"], &["b", "c"], 0.5);
/// assert_eq!(fused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["b", "a", "c"]);
/// ```
pub fn fuse<'a>(first: &[&'a str], second: &[&'a str], weight: f64) -> Vec<(&'a str, f64)> {
    let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
    for (ranking, weight) in [(first, 1.0 - weight), (second, weight)] {
        for (place, id) in (1_u32..).zip(ranking) {
            *scores.entry(id).or_default() += weight / (FLATNESS + f64::from(place));
        }
    }
    let mut fused: Vec<(&str, f64)> = scores.into_iter().filter(|(_, score)| *score > 0.0).collect();
    let place = |id: &str| first.iter().chain(second).position(|known| *known == id);
    fused.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| place(left.0).cmp(&place(right.0))));
    fused
}

#[cfg(test)]
mod tests {
    use super::fuse;

    #[test]
    fn a_weight_of_nothing_leaves_one_ranking() {
        let order = |weight| fuse(&["a", "b"], &["c", "b"], weight).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(order(0.0), ["a", "b"]);
        assert_eq!(order(1.0), ["c", "b"]);
        assert_eq!(order(0.4), ["b", "a", "c"]);
        assert!(fuse(&[], &[], 0.5).is_empty());
    }
}
