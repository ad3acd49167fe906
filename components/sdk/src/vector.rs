//! Vectors: how alike two are, the best of many, and vectors as the bytes that a database keeps. A similarity is never
//! NaN: a vector of norm zero has none.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use vector_rules::MEMBER_BYTES;
pub use vector_rules::product;

/// The cosine of the angle between two vectors, from -1 to 1; none when their lengths differ, one has norm zero, or a
/// member is not finite.
///
/// ```
/// use berth_sdk::vector::cosine;
/// assert_eq!(cosine(&[1.0, 0.0], &[2.0, 0.0]), Some(1.0));
/// assert_eq!(cosine(&[1.0, 0.0], &[0.0, 0.0]), None);
/// assert_eq!(cosine(&[1.0], &[1.0, 2.0]), None);
/// ```
pub fn cosine(left: &[f32], right: &[f32]) -> Option<f32> {
    if left.len() != right.len() {
        return None;
    }
    let (mut product, mut left_square, mut right_square) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (left, right) in left.iter().zip(right) {
        let (left, right) = (f64::from(*left), f64::from(*right));
        product += left * right;
        left_square += left * left;
        right_square += right * right;
    }
    let norm = left_square.sqrt() * right_square.sqrt();
    let similarity = (norm > 0.0 && norm.is_finite()).then(|| product / norm)?;
    #[expect(clippy::cast_possible_truncation, reason = "a similarity is small")]
    similarity.is_finite().then_some(similarity.clamp(-1.0, 1.0) as f32)
}

/// The `count` candidates most like the query, the likest first; candidates without a similarity are left out.
///
/// ```
/// use berth_sdk::vector::top_k;
/// let candidates = [("a", vec![1.0, 0.0]), ("b", vec![0.6, 0.8]), ("c", vec![0.0, 0.0])];
/// let best = top_k(&[0.0, 1.0], candidates.iter().map(|(id, vector)| (*id, vector.as_slice())), 2);
/// assert_eq!(best.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["b", "a"]);
/// ```
pub fn top_k<'a, T>(
    query: &[f32],
    candidates: impl IntoIterator<Item = (T, &'a [f32])>,
    count: usize,
) -> Vec<(T, f32)> {
    let mut top = Top::new(count);
    for (id, vector) in candidates {
        if let Some(similarity) = cosine(query, vector) {
            top.offer(similarity, || id);
        }
    }
    top.into_sorted()
}

/// The length of a vector.
///
/// ```
/// assert_eq!(berth_sdk::vector::norm(&[3.0, 4.0]), 5.0);
/// ```
pub fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|member| f64::from(*member) * f64::from(*member)).sum::<f64>().sqrt()
}

/// A vector as bytes: its members one after the other, little-endian.
///
/// ```
/// use berth_sdk::vector::{from_bytes, to_bytes};
/// assert_eq!(from_bytes(&to_bytes(&[1.0, -2.5])), Some(vec![1.0, -2.5]));
/// assert_eq!(from_bytes(&[0, 0, 0]), None);
/// ```
pub fn to_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|member| member.to_le_bytes()).collect()
}

/// The vector of [`to_bytes`]; none when the bytes are not whole members.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<f32>> {
    let (members, rest) = bytes.as_chunks::<MEMBER_BYTES>();
    rest.is_empty().then(|| members.iter().map(|member| f32::from_le_bytes(*member)).collect())
}

/// The best of many, in the memory of a few.
///
/// ```
/// use berth_sdk::vector::Top;
/// let mut top = Top::new(2);
/// for (name, score) in [("a", 0.1), ("b", 0.9), ("c", 0.5)] {
///     top.offer(score, || name);
/// }
/// assert_eq!(top.into_sorted(), [("b", 0.9), ("c", 0.5)]);
/// ```
pub struct Top<T> {
    count: usize,
    offered: u64,
    kept: BinaryHeap<Reverse<Scored<T>>>,
}

/// Of two with one score the earlier one is the better.
struct Scored<T> {
    score: f32,
    turn: u64,
    what: T,
}

impl<T> Ord for Scored<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.turn.cmp(&self.turn))
    }
}

impl<T> PartialOrd for Scored<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Scored<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Scored<T> {}

impl<T> Top<T> {
    /// Keeps `count`.
    pub fn new(count: usize) -> Self {
        Self { count, offered: 0, kept: BinaryHeap::new() }
    }

    /// Offers one; `make` is called only when it is kept. What is not a number is not.
    pub fn offer(&mut self, score: f32, make: impl FnOnce() -> T) {
        self.offered += 1;
        let is_full = self.kept.len() >= self.count;
        let is_better = self.kept.peek().is_some_and(|Reverse(worst)| score > worst.score);
        if score.is_nan() || self.count == 0 || (is_full && !is_better) {
            return;
        }
        if is_full {
            self.kept.pop();
        }
        self.kept.push(Reverse(Scored { score, turn: self.offered, what: make() }));
    }

    /// The best first.
    pub fn into_sorted(self) -> Vec<(T, f32)> {
        let mut kept: Vec<Scored<T>> = self.kept.into_iter().map(|Reverse(scored)| scored).collect();
        kept.sort_by(|left, right| right.cmp(left));
        kept.into_iter().map(|scored| (scored.what, scored.score)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Top;

    proptest! {
        #[test]
        fn the_best_are_those_of_a_sort(scores in proptest::collection::vec(0_u8..20, 0..60), count in 0_usize..10) {
            let mut top = Top::new(count);
            for (index, score) in scores.iter().enumerate() {
                top.offer(f32::from(*score), || index);
            }
            let mut all: Vec<usize> = (0..scores.len()).collect();
            all.sort_by_key(|index| std::cmp::Reverse(scores[*index]));
            all.truncate(count);
            let kept: Vec<usize> = top.into_sorted().into_iter().map(|(index, _)| index).collect();
            prop_assert_eq!(kept, all);
        }
    }
}
