//! The same comparison of vectors in a component and in native code: what is lost by doing it in the sandbox, before any vector has to be
//! brought there.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use berth_tests::manifest::{Manifest, Slot};
use berth_tests::{Host, guests};

use crate::hello::median;

/// As many as one search goes through.
const USUAL: usize = 200_000;
const DIMENSIONS: usize = 384;
/// How often either compares all of them.
const ROUNDS: usize = 11;
/// A member's bytes.
const MEMBER: usize = 4;

/// `vectors [count]`.
pub(crate) async fn measure(arguments: &[String]) -> Result<()> {
    let count = match arguments {
        [] => USUAL,
        [count] => count.parse().context("how many vectors?")?,
        _ => anyhow::bail!("vectors takes a count"),
    };
    let limits = "public = [\"GET /api/scales\"]\n[plugin.limits]\nmemory_mib = 1024\nrequest_timeout_ms = 60000";
    let scales = Slot::new("scales", guests::fixture("scales"), "/api/scales").with(limits);
    let host = Host::with(Manifest::of([scales])).start().await;
    let matrix = matrix(count);
    let question: Vec<u8> = matrix.iter().take(DIMENSIONS * MEMBER).copied().collect();
    let (mut inside, mut native) = (Vec::new(), Vec::new());
    let path = format!("/api/scales?count={count}&dimensions={DIMENSIONS}");
    for _ in 0..ROUNDS {
        let answer = host.client().get(&path).await.expect(200);
        let sum = compare(&matrix, &question, &mut native);
        let told = |name: &str| answer.get(name).and_then(serde_json::Value::as_f64);
        inside.push(told("micros").context("no time")? / 1e3);
        let theirs = told("sum").context("no sum")?;
        ensure!((theirs - sum).abs() < f64::EPSILON, "{sum} here, but {theirs} there");
    }
    let (inside, native) = (median(&inside), median(&native));
    println!("{count} vectors of {DIMENSIONS} members, each compared once; median of {ROUNDS}");
    println!("  component  {inside:>8.1} ms");
    println!("  native     {native:>8.1} ms");
    println!("  ratio      {:>8.2}", inside / native);
    Ok(())
}

/// Compares all with the question, and notes the milliseconds.
fn compare(matrix: &[u8], question: &[u8], times: &mut Vec<f64>) -> f64 {
    let begin = Instant::now();
    let sum = matrix.chunks(question.len()).filter_map(|row| vector_rules::product(question, row)).map(f64::from).sum();
    times.push(begin.elapsed().as_secs_f64() * 1e3);
    sum
}

/// The matrix that the component makes too.
fn matrix(count: usize) -> Vec<u8> {
    (0..count * DIMENSIONS).flat_map(|place| member(place).to_le_bytes()).collect()
}

/// Small whole numbers, of which every sum is exact in whatever order.
fn member(place: usize) -> f32 {
    f32::from(u8::try_from(place % 7).unwrap_or(0)) - 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_whole_numbers() {
        let matrix = matrix(3);
        let sum = compare(&matrix, &matrix[..DIMENSIONS * MEMBER], &mut Vec::new());
        assert_eq!(sum.fract(), 0.0);
    }
}
