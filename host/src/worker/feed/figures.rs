//! What the host counts, as points of metrics: of each plugin's requests, builds and queue.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::capability::queue::QueueRoom;
use crate::database::format_timestamp;
use crate::deploy::{Build, Registry, Slot};
use crate::telemetry::meter::Reading;

/// How long the queue may take to say what lies in it.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(2);
/// Upper ends of the steps of the times of requests, in milliseconds.
const BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000];

/// Points of one batch.
pub(super) const BATCH_MAX: usize = 500;

/// One reading: its moment and which host it is of.
struct Moment<'a> {
    at: String,
    host: &'a str,
}

/// Points of this moment, each a JSON object.
pub(super) async fn read<R: Build>(registry: &Registry<R>, queue: &QueueRoom, host: &str) -> Vec<Value> {
    let moment = Moment { at: format_timestamp(chrono::Utc::now()), host };
    let mut points: Vec<Value> = registry.slots().iter().flat_map(|slot| moment.of_plugin(slot)).collect();
    let stats = tokio::time::timeout(QUEUE_TIME_MAX, queue.stats()).await.ok().and_then(Result::ok);
    for stats in stats.unwrap_or_default() {
        let lag_ms = stats.oldest_at.map_or(0, |oldest| (queue.now() - oldest).num_milliseconds().max(0));
        points.push(moment.point("berth.queue.depth", "gauge", "{message}", &stats.plugin, json!(stats.depth)));
        points.push(moment.point("berth.queue.lag", "gauge", "ms", &stats.plugin, json!(lag_ms)));
        let dead = json!(stats.dead_letters);
        points.push(moment.point("berth.queue.dead_letters", "gauge", "{message}", &stats.plugin, dead));
    }
    points
}

impl Moment<'_> {
    fn of_plugin<R: Build>(&self, slot: &Arc<Slot<R>>) -> Vec<Value> {
        let (name, reading) = (&**slot.name(), slot.meter().reading());
        let memory: u64 = slot.builds().iter().map(|(_, build)| build.statistics().memory_bytes).sum();
        let mut points = vec![
            self.point("berth.http.requests", "counter", "{request}", name, json!(reading.requests())),
            self.point("berth.http.failures", "counter", "{request}", name, json!(reading.failures)),
            self.point("berth.plugin.traps", "counter", "{trap}", name, json!(slot.traps())),
            self.point("berth.plugin.in_flight", "gauge", "{call}", name, json!(slot.in_flight())),
            self.point("berth.plugin.memory", "gauge", "By", name, json!(memory)),
            self.point("berth.plugin.cpu", "counter", "s", name, json!(slot.cpu_seconds())),
        ];
        if reading.requests() > 0 {
            let mut duration = self.point("berth.http.duration", "histogram", "ms", name, Value::Null);
            if let Some(members) = duration.as_object_mut() {
                members.insert("buckets".to_owned(), buckets(&reading));
            }
            points.push(duration);
        }
        points
    }

    fn point(&self, name: &str, kind: &str, unit: &str, service: &str, value: Value) -> Value {
        json!({
            "name": name, "kind": kind, "unit": unit, "service": service, "labels": { "host": self.host },
            "value": value, "recordedAt": self.at,
        })
    }
}

/// How the times of requests are spread, since the host began.
fn buckets(reading: &Reading) -> Value {
    // Of the histogram's own count, so that the steps agree with it whatever is counted meanwhile.
    let all = reading.histogram().last().map_or(0, |(_, count)| *count);
    let mut counts = Vec::with_capacity(BOUNDS_MS.len() + 1);
    let mut before = 0;
    for bound in BOUNDS_MS {
        let up_to = all.saturating_sub(reading.slower_than(bound * 1_000));
        counts.push(up_to.saturating_sub(before));
        before = before.max(up_to);
    }
    counts.push(all - before);
    json!({ "count": all, "sum": reading.total_us as f64 / 1e3, "bounds": BOUNDS_MS, "counts": counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::meter::Meter;

    #[test]
    fn every_request_is_in_one_step() {
        let meter = Meter::default();
        for milliseconds in [0, 3, 40, 700, 60_000] {
            meter.note(Some(200), Duration::from_millis(milliseconds));
        }
        let buckets = buckets(&meter.reading());
        let counts: Vec<u64> =
            buckets["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (BOUNDS_MS.len() + 1, 5));
        assert_eq!((&buckets["count"], counts.last()), (&json!(5), Some(&1)));
        assert!((buckets["sum"].as_f64().unwrap() - 60_743.0).abs() < 1.0);
    }
}
