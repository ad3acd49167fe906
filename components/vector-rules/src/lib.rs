//! How alike two vectors are, over the bytes that a database keeps: members of single precision one after the other,
//! little-endian. The host counts so within SQLite, and components in themselves.

/// How many members are multiplied side by side, as vector instructions do it.
const LANES: usize = 16;
/// Bytes of one member.
pub const MEMBER_BYTES: usize = 4;

/// The sum of the products of two vectors, without unpacking them; none when their lengths differ or they are not whole
/// members. It runs on the vector instructions of a component, or on AVX2 where the processor has it, with the same result.
///
/// ```
/// let bytes = |members: &[f32]| members.iter().flat_map(|member| member.to_le_bytes()).collect::<Vec<u8>>();
/// assert_eq!(vector_rules::product(&bytes(&[1.0, 2.0]), &bytes(&[3.0, 4.0])), Some(11.0));
/// assert_eq!(vector_rules::product(&bytes(&[1.0, 2.0]), &bytes(&[3.0])), None);
/// assert_eq!(vector_rules::product(&[0], &[0]), None);
/// ```
pub fn product(left: &[u8], right: &[u8]) -> Option<f32> {
    (left.len() == right.len() && left.len().is_multiple_of(MEMBER_BYTES)).then(|| sum(left, right))
}

#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "simd128")]
fn sum(left: &[u8], right: &[u8]) -> f32 {
    added(left, right)
}

#[cfg(not(target_arch = "wasm32"))]
fn sum(left: &[u8], right: &[u8]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "the processor has just been asked whether it has these instructions")]
        return unsafe { wide(left, right) };
    }
    added(left, right)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn wide(left: &[u8], right: &[u8]) -> f32 {
    added(left, right)
}

#[inline(always)]
fn added(left: &[u8], right: &[u8]) -> f32 {
    // Independent sums, so that the compiler may keep them in registers.
    let mut sums = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<{ LANES * MEMBER_BYTES }>();
    let (right, right_rest) = right.as_chunks::<{ LANES * MEMBER_BYTES }>();
    for (left, right) in left.iter().zip(right) {
        let (left, right) = (left.as_chunks::<MEMBER_BYTES>().0, right.as_chunks::<MEMBER_BYTES>().0);
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += f32::from_le_bytes(*left) * f32::from_le_bytes(*right);
        }
    }
    let rest = left_rest.as_chunks::<MEMBER_BYTES>().0.iter().zip(right_rest.as_chunks::<MEMBER_BYTES>().0);
    sums.iter().sum::<f32>()
        + rest.map(|(left, right)| f32::from_le_bytes(*left) * f32::from_le_bytes(*right)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::product;

    proptest! {
        #[test]
        fn the_product_is_that_of_the_members(pairs in proptest::collection::vec((-10.0_f32..10.0, -10.0_f32..10.0), 0..80)) {
            let bytes = |of: fn(&(f32, f32)) -> f32| pairs.iter().flat_map(|pair| of(pair).to_le_bytes()).collect::<Vec<u8>>();
            let expected: f64 = pairs.iter().map(|(left, right)| f64::from(*left) * f64::from(*right)).sum();
            let product = product(&bytes(|pair| pair.0), &bytes(|pair| pair.1)).unwrap();
            prop_assert!((f64::from(product) - expected).abs() < 0.01);
        }
    }
}
