//! Letting the database compare: SQLite with a function of the host's, PostgreSQL with pgvector. It says which are the best, and
//! those are measured here, so that both ways find the same: what two sums of floats differ by is little beside a product, and
//! much beside the distance of two vectors that are nearly one.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use berth_sdk::{
    prelude::*,
    vector::{self, Top},
};

use super::{
    Search,
    scan::{self, Best, Measure},
};
use crate::collection::DistanceMetric;

/// The setting that turns it off.
const SETTING: &str = "search_in_database";
/// How many more the database is asked for, should it see the order of the last ones otherwise.
const SPARE: usize = 16;
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
    let rows = match database::query(&statement(search, count + SPARE, values.len()), &values) {
        Ok(rows) => rows,
        Err(Fault::Invalid(reason)) => {
            logging::info!("the database does not compare vectors; the component does", reason = reason);
            REFUSED_UNTIL.store(now.plus(PATIENCE).millis(), Ordering::Relaxed);
            return Ok(None);
        }
        Err(Fault::Timeout) => return Ok(None),
        Err(fault) => return Err(fault.into()),
    };
    let mut ids: Vec<String> = rows.into_iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    // The order of the scan, which settles who comes first of two that are alike.
    ids.sort_unstable();
    let mut top = Top::new(count);
    for page in ids.chunks(scan::page_rows(search)) {
        let values: Vec<database::Value> = page.iter().map(|id| id.as_str().into()).collect();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let sql = format!("SELECT id, norm, vector FROM emb_chunks WHERE id IN ({}) ORDER BY id", places.join(", "));
        for row in database::query(&sql, &values)? {
            scan::offer(&mut top, search, measure, &row)?;
        }
    }
    Ok(Some(top.into_sorted()))
}

fn statement(search: &Search, count: usize, parameter: usize) -> String {
    // What grows with the similarity, whatever the metric makes of it.
    let order = match search.metric {
        DistanceMetric::Cosine => "m.product / NULLIF(m.norm, 0)",
        DistanceMetric::L2 => "2 * m.product - m.norm * m.norm",
        DistanceMetric::InnerProduct => "m.product",
    };
    format!(
        "SELECT m.id AS id FROM \
         (SELECT c.id AS id, c.norm AS norm, vector_product(c.vector, ${parameter}) AS product FROM {} WHERE {}) AS m \
         ORDER BY {order} DESC NULLS LAST, m.id LIMIT {count}",
        search.scope.from(),
        search.scope.condition()
    )
}
