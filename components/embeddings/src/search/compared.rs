//! Letting the database compare: SQLite does, with a function of the host's. It finds what the scan in the component finds,
//! and sends the best only.

use std::sync::atomic::{AtomicBool, Ordering};

use berth_sdk::{prelude::*, vector};

use super::{
    Search,
    scan::{Best, Measure},
};
use crate::collection::DistanceMetric;

/// The setting that turns it off.
const SETTING: &str = "search_in_database";

/// Whether the database has refused to compare, as PostgreSQL does.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// The `count` best passages with their similarity; none where the database cannot say, or not in the time of a statement.
pub fn best(search: &Search, measure: &Measure, count: usize) -> Result<Option<Best>> {
    if REFUSED.load(Ordering::Relaxed) || !config::get_or(SETTING, true) {
        return Ok(None);
    }
    let mut values = search.scope.values.clone();
    values.push(vector::to_bytes(&search.vector).into());
    let rows = match database::query(&statement(search, count, values.len()), &values) {
        Ok(rows) => rows,
        Err(Fault::Invalid(reason)) => {
            logging::info!("the database does not compare vectors; the component does", reason = reason);
            REFUSED.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        Err(Fault::Timeout) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let mut best = Vec::with_capacity(rows.len());
    for row in rows {
        let similarity = measure.of_product(row.get("product")?, row.get("norm")?);
        if let Some(similarity) = similarity.filter(|similarity| *similarity >= search.threshold) {
            best.push((row.get("id")?, similarity));
        }
    }
    Ok(Some(best))
}

fn statement(search: &Search, count: usize, parameter: usize) -> String {
    // What grows with the similarity, whatever the metric makes of it.
    let order = match search.metric {
        DistanceMetric::Cosine => "m.product / m.norm",
        DistanceMetric::L2 => "2 * m.product - m.norm * m.norm",
        DistanceMetric::InnerProduct => "m.product",
    };
    format!(
        "SELECT m.id AS id, m.norm AS norm, m.product AS product FROM \
         (SELECT c.id AS id, c.norm AS norm, vector_product(c.vector, ${parameter}) AS product FROM {} WHERE {}) AS m \
         ORDER BY {order} DESC, m.id LIMIT {count}",
        search.scope.from(),
        search.scope.condition()
    )
}
