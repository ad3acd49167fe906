//! Letting the database compare: SQLite with a function of the host's, PostgreSQL with pgvector. It finds what the scan in the
//! component finds, and sends the best only.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use berth_sdk::{prelude::*, vector};

use super::{
    Search,
    scan::{Best, Measure},
};
use crate::collection::DistanceMetric;

/// The setting that turns it off.
const SETTING: &str = "search_in_database";

/// How long a database that has refused is not asked again: PostgreSQL may just be filling its index.
const PATIENCE: Duration = Duration::from_secs(60);

/// Until when, in milliseconds since 1970, the database is not asked to compare: PostgreSQL without pgvector refuses.
static REFUSED_UNTIL: AtomicI64 = AtomicI64::new(0);

/// The `count` best passages with their similarity; none where the database cannot say, or not in the time of a statement.
pub fn best(search: &Search, measure: &Measure, count: usize) -> Result<Option<Best>> {
    let now = clock::now();
    if now.millis() < REFUSED_UNTIL.load(Ordering::Relaxed) || !config::get_or(SETTING, true) {
        return Ok(None);
    }
    let mut values = search.scope.values.clone();
    values.push(vector::to_bytes(&search.vector).into());
    let rows = match database::query(&statement(search, count, values.len()), &values) {
        Ok(rows) => rows,
        Err(Fault::Invalid(reason)) => {
            logging::info!("the database does not compare vectors; the component does", reason = reason);
            REFUSED_UNTIL.store(now.plus(PATIENCE).millis(), Ordering::Relaxed);
            return Ok(None);
        }
        Err(Fault::Timeout) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let mut best = Vec::with_capacity(rows.len());
    for row in rows {
        // None where the product is no number.
        let Some(product) = row.get::<Option<f64>>("product")? else { continue };
        let similarity = measure.of_product(product, row.get("norm")?);
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
         ORDER BY {order} DESC NULLS LAST, m.id LIMIT {count}",
        search.scope.from(),
        search.scope.condition()
    )
}
