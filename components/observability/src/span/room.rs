//! How many spans a trace has room for.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{database::Value, prelude::*};

use super::Span;

/// Spans of one trace, a few more where several store some at once; further ones are dropped and counted.
pub(crate) const SPANS_MAX: i64 = 10_000;
/// Ids of one statement.
const CHUNK: usize = 400;

/// Spans for which there is no room in their traces. What is stored already takes none.
pub fn over<'a>(
    transaction: &Transaction,
    organization_id: &str,
    spans: &BTreeMap<(&'a str, &'a str), &'a Span>,
) -> Result<BTreeSet<(&'a str, &'a str)>> {
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (trace_id, span_id) in spans.keys().copied() {
        ids.entry(trace_id).or_default().push(span_id);
    }
    let traces: Vec<&str> = ids.keys().copied().collect();
    let mut over = BTreeSet::new();
    for chunk in traces.chunks(CHUNK) {
        let found = within(
            transaction,
            "SELECT trace_id, span_count FROM trace_traces WHERE organization_id = $1 AND trace_id",
            vec![organization_id.into()],
            chunk,
        )?;
        for row in found {
            let (trace_id, stored): (String, i64) = (row.get("trace_id")?, row.get("span_count")?);
            let Some((trace_id, wanted)) = ids.get_key_value(trace_id.as_str()) else { continue };
            let room = usize::try_from(SPANS_MAX - stored).unwrap_or(0);
            if wanted.len() <= room {
                continue;
            }
            let mut known = BTreeSet::new();
            for chunk in wanted.chunks(CHUNK) {
                let found = within(
                    transaction,
                    "SELECT span_id FROM trace_spans WHERE organization_id = $1 AND trace_id = $2 AND span_id",
                    vec![organization_id.into(), (*trace_id).into()],
                    chunk,
                )?;
                for row in found {
                    known.insert(row.get::<String>("span_id")?);
                }
            }
            over.extend(beyond(wanted, &known, room).map(|span_id| (*trace_id, span_id)));
        }
    }
    Ok(over)
}

/// The rows whose last column is one of some ids.
fn within(transaction: &Transaction, sql: &str, mut values: Vec<Value>, ids: &[&str]) -> Result<database::Rows> {
    let first = values.len() + 1;
    values.extend(ids.iter().map(|id| Value::from(*id)));
    let places: Vec<String> = (first..=values.len()).map(|place| format!("${place}")).collect();
    Ok(transaction.query(&format!("{sql} IN ({})", places.join(", ")), &values)?)
}

/// Those that are not known and come after as many as there is room for.
fn beyond<'a>(ids: &[&'a str], known: &BTreeSet<String>, room: usize) -> impl Iterator<Item = &'a str> {
    ids.iter().copied().filter(|id| !known.contains(*id)).skip(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_trace_takes_what_it_has_already() {
        let known = BTreeSet::from(["b".to_string(), "d".to_string()]);
        let over = |room: usize| beyond(&["a", "b", "c", "d", "e"], &known, room).collect::<Vec<_>>();
        assert_eq!((over(0), over(2), over(3)), (vec!["a", "c", "e"], vec!["e"], Vec::new()));
    }
}
