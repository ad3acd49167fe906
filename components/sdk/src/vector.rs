//! Vectors: how alike two are. A similarity is never NaN: a vector of norm zero has none.

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
    let mut scored: Vec<(T, f32)> = candidates
        .into_iter()
        .filter_map(|(id, vector)| cosine(query, vector).map(|similarity| (id, similarity)))
        .collect();
    scored.sort_by(|left, right| right.1.total_cmp(&left.1));
    scored.truncate(count);
    scored
}
