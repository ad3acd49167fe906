//! Comparing every vector of a search: in the database where it does that, else here, page by page, in the memory of one page and
//! the best so far. Either is exact.

use std::time::Duration;

use berth_sdk::{
    prelude::*,
    vector::{self, Top},
};

use super::{Search, compared};
use crate::collection::DistanceMetric;

/// Vectors of one search; a setting makes them fewer.
pub const VECTORS_MAX: i64 = 200_000;
/// That setting.
const SETTING: &str = "search_vectors_max";
/// Bytes and rows of one page: below what the host lets a query answer.
const PAGE_BYTES: usize = 6 * 1024 * 1024;
const PAGE_ROWS_MAX: usize = 10_000;
/// What a row has besides its vector, about.
const ROW_BYTES: usize = 160;
/// How long a search goes on: the request's deadline comes after it.
const TIME_MAX: Duration = Duration::from_secs(25);

/// Passages with their similarity, the best first.
pub type Best = Vec<(String, f32)>;

/// How near vectors are to one.
pub struct Measure {
    metric: DistanceMetric,
    query: Vec<u8>,
    norm: f64,
}

impl Measure {
    /// To this vector, by this metric.
    pub fn new(query: &[f32], metric: DistanceMetric) -> Self {
        Self { metric, query: vector::to_bytes(query), norm: vector::norm(query) }
    }

    /// The similarity of a vector of that norm; none when it has another length.
    pub fn similarity(&self, bytes: &[u8], norm: f64) -> Option<f32> {
        self.of_product(vector::product(&self.query, bytes)?.into(), norm)
    }

    /// The similarity of a vector of that norm whose members' products with those of this one have that sum.
    fn of_product(&self, product: f64, norm: f64) -> Option<f32> {
        let similarity = match self.metric {
            DistanceMetric::Cosine => (product / (self.norm * norm)).clamp(-1.0, 1.0),
            DistanceMetric::L2 => 1.0 / (1.0 + (self.norm * self.norm + norm * norm - 2.0 * product).max(0.0).sqrt()),
            DistanceMetric::InnerProduct => product,
        };
        #[expect(clippy::cast_possible_truncation, reason = "similarities are compared in single precision")]
        similarity.is_finite().then_some(similarity as f32)
    }
}

/// The `count` best passages with their similarity, and how many vectors were compared.
pub fn best(search: &Search, count: usize) -> Result<(Best, i64)> {
    let total = check_total(search)?;
    let measure = Measure::new(&search.vector, search.metric);
    let begin = clock::now();
    if let Some(best) = compared::best(search, &measure, count)? {
        return Ok((best, total));
    }
    let mut top = Top::new(count);
    let limit = page_rows(search);
    let mut after = String::new();
    loop {
        let mut values = search.scope.values.clone();
        values.push(after.as_str().into());
        let sql = format!(
            "SELECT c.id AS id, c.norm AS norm, c.vector AS vector FROM {} WHERE {} AND c.id > ${} ORDER BY c.id LIMIT {limit}",
            search.scope.from(),
            search.scope.condition(),
            values.len()
        );
        let rows = database::query(&sql, &values)?;
        let is_last = rows.len() < limit;
        for row in rows {
            offer(&mut top, search, &measure, &row)?;
            if !is_last {
                after = row.get("id")?;
            }
        }
        if is_last {
            return Ok((top.into_sorted(), total));
        }
        if clock::now().since(begin) > TIME_MAX {
            return Err(Problem::timeout(
                "There is too much to compare in the time of one request; narrow the search.",
            ));
        }
    }
}

/// Rows of one page.
pub fn page_rows(search: &Search) -> usize {
    (PAGE_BYTES / (search.vector.len() * 4 + ROW_BYTES)).clamp(1, PAGE_ROWS_MAX)
}

/// Compares the `vector` of a row, of that `norm`, and keeps its `id` when it is among the best.
pub fn offer(top: &mut Top<String>, search: &Search, measure: &Measure, row: &database::Row) -> Result<()> {
    let bytes: Vec<u8> = row.get("vector")?;
    let similarity = measure.similarity(&bytes, row.get("norm")?);
    if let Some(similarity) = similarity.filter(|similarity| *similarity >= search.threshold) {
        let id: String = row.get("id")?;
        top.offer(similarity, || id);
    }
    Ok(())
}

/// How many vectors there are to compare; 422 when those are too many.
fn check_total(search: &Search) -> Result<i64> {
    let most = config::get_or(SETTING, VECTORS_MAX).clamp(1, VECTORS_MAX);
    let sql = format!(
        "SELECT COUNT(*) AS total FROM (SELECT 1 AS one FROM {} WHERE {} LIMIT {}) AS counted",
        search.scope.from(),
        search.scope.condition(),
        most + 1
    );
    let total = database::query_one(&sql, &search.scope.values)?.map_or(Ok(0), |row| row.get("total"))?;
    if total > most {
        let text = format!("More than {most} vectors would have to be compared.");
        return Err(Problem::unprocessable(text)
            .with_code("TOO_MANY_VECTORS")
            .with("hint", "Narrow the search with collectionId, projectId or filter."));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use berth_sdk::vector::to_bytes;

    use super::*;

    #[test]
    fn each_metric_measures_in_its_own_way() {
        let near = |metric, left: &[f32], right: &[f32]| {
            let measure = Measure::new(left, metric);
            measure.similarity(&to_bytes(right), vector::norm(right))
        };
        assert_eq!(near(DistanceMetric::Cosine, &[2.0, 0.0], &[7.0, 0.0]), Some(1.0));
        assert_eq!(near(DistanceMetric::L2, &[0.0, 3.0], &[4.0, 0.0]), Some(1.0 / 6.0));
        assert_eq!(near(DistanceMetric::InnerProduct, &[2.0, 1.0], &[3.0, 4.0]), Some(10.0));
        assert_eq!(near(DistanceMetric::Cosine, &[1.0], &[1.0, 0.0]), None);
    }
}
