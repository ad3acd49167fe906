//! `/metrics`: what the host counts, in the text format of Prometheus.
//!
//! Everything is read from counters that others keep; nothing is computed before somebody asks. Labels come from the
//! manifest and from fixed words only, never from a request, so that no client can make a series.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::error::GatewayError;
use super::health::VERSION;
use super::respond::ResponseBody;
use super::upstream::Upstream;
use super::{Gateway, health};
use crate::capability::queue::QueueStats;
use crate::deploy::Slot;
use crate::engine::process_time;
use crate::telemetry::meter::{Meter, Reading};

/// How long the queue may take to say what lies in it; without, the rest is told all the same.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(2);
/// The name of each class of statuses.
const CLASSES: [&str; 6] = ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds of the histogram, in microseconds.
const BOUNDS_MICROS: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// Counters of what is no plugin's.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub main_app: Arc<Meter>,
    pub admin: Arc<Meter>,
    /// The host's own routes, and whatever leads nowhere.
    pub host: Arc<Meter>,
}

/// Families in the making.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

impl<U: Upstream> Gateway<U> {
    /// Answers a scrape.
    pub(super) async fn metrics(&self) -> Result<Response<ResponseBody>, GatewayError> {
        let queues = tokio::time::timeout(QUEUE_TIME_MAX, self.queue.stats()).await;
        let mut page = Page::default();
        self.add_requests(&mut page);
        self.add_plugins(&mut page);
        if let Ok(Ok(queues)) = queues {
            let of_each = |read: fn(&QueueStats) -> u64| {
                let series = queues.iter().map(|stats| (vec![("plugin", stats.plugin.clone())], read(stats) as f64));
                series.collect::<Vec<_>>()
            };
            let waiting = of_each(|stats| stats.depth);
            page.0.push(gauges("berth_queue_messages", "Messages that wait or are being handled.", waiting));
            let dead = of_each(|stats| stats.dead_letters);
            page.0.push(gauges("berth_queue_dead_letters", "Messages that nobody could handle.", dead));
        }
        add_process(&mut page);
        page.0.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new().encode(&page.0, &mut text).map_err(|error| GatewayError::Internal(error.into()))?;
        let mut response = Response::new(ResponseBody::full(text));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        Ok(response)
    }

    fn add_requests(&self, page: &mut Page) {
        let slots = self.registry.slots();
        let mut meters: Vec<(String, Arc<Meter>)> =
            slots.iter().map(|slot| (slot.name().to_string(), Arc::clone(slot.meter()))).collect();
        meters.extend([
            ("host".to_owned(), Arc::clone(&self.metrics.host)),
            ("admin".to_owned(), Arc::clone(&self.metrics.admin)),
            ("main-app".to_owned(), Arc::clone(&self.metrics.main_app)),
        ]);
        let read: Vec<_> = meters.into_iter().map(|(service, meter)| (service, meter.reading())).collect();
        page.0.push(counters(
            "berth_http_requests_total",
            "Requests that were answered, by who answered and the class of the status.",
            read.iter().flat_map(|(service, reading)| {
                CLASSES.iter().zip(reading.classes).filter(|(_, count)| *count > 0).map(|(class, count)| {
                    (vec![("service", service.clone()), ("status", (*class).to_owned())], count as f64)
                })
            }),
        ));
        let mut durations = family(
            "berth_http_request_duration_seconds",
            "Time from a request's head to the head of its answer.",
            MetricType::HISTOGRAM,
        );
        durations.set_metric(read.iter().map(|(service, reading)| histogram(service, reading)).collect());
        page.0.push(durations);
        page.0.push(gauge("berth_http_requests_in_flight", "Requests under way.", self.load.in_flight() as f64));
        page.0.push(counter(
            "berth_http_requests_shed_total",
            "Requests that were turned away because too many were under way.",
            self.load.turned_away() as f64,
        ));
        page.0.push(counter(
            "berth_http_rate_limited_total",
            "Requests that were refused because a rate limit was used up.",
            self.throttle.refused() as f64,
        ));
    }

    fn add_plugins(&self, page: &mut Page) {
        let slots = self.registry.slots();
        let each = |read: fn(&Slot<U>) -> Option<f64>| {
            let read = move |slot: &Arc<Slot<U>>| Some((vec![("plugin", slot.name().to_string())], read(slot)?));
            slots.iter().filter_map(read).collect::<Vec<_>>()
        };
        let of_build = |read: fn(&U) -> f64| {
            let read =
                move |slot: &Arc<Slot<U>>| Some((vec![("plugin", slot.name().to_string())], read(&*slot.current()?)));
            slots.iter().filter_map(read).collect::<Vec<_>>()
        };
        page.0.push(gauges(
            "berth_plugin_up",
            "Whether a build of the plugin takes requests.",
            each(|slot| Some(f64::from(u8::from(slot.current().is_some())))),
        ));
        page.0.push(gauges(
            "berth_plugin_revision",
            "The number of the present build.",
            of_build(|build| build.number() as f64),
        ));
        page.0.push(gauges(
            "berth_plugin_calls_in_flight",
            "Calls in the present build and in those that drain.",
            each(|slot| {
                let in_flight = slot.builds().iter().map(|(_, build)| build.statistics().in_flight).sum::<usize>();
                Some(in_flight as f64)
            }),
        ));
        page.0.push(gauges(
            "berth_plugin_warm_instances",
            "Idle instances of the present build.",
            of_build(|build| build.statistics().warm as f64),
        ));
        page.0.push(counters(
            "berth_plugin_traps_total",
            "Calls that ended in a trap, over all builds.",
            each(|slot| {
                let traps = slot.builds().iter().map(|(_, build)| build.statistics().traps).sum::<u64>();
                Some((slot.traps_before() + traps) as f64)
            }),
        ));
        page.0.push(counters(
            "berth_plugin_cpu_seconds_total",
            "Processor time in guests' calls and what the host does for them in the same thread, over all builds.",
            each(|slot| {
                let alive: f64 = slot.builds().iter().map(|(_, build)| build.statistics().cpu_seconds).sum();
                Some(slot.cpu_seconds_before() + alive)
            }),
        ));
    }
}

/// What the operating system says of this process.
fn add_process(page: &mut Page) {
    let version = vec![("version", VERSION.to_owned())];
    page.0.push(gauges("berth_build_info", "The version of this host.", [(version, 1.0)]));
    let uptime = health::uptime();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(uptime);
    page.0.push(gauge("process_start_time_seconds", "When the process started, in Unix time.", started.as_secs_f64()));
    let cpu = process_time().as_secs_f64();
    page.0.push(counter("process_cpu_seconds_total", "Processor time of the process.", cpu));
    // Only where the kernel tells: elsewhere these are left out.
    if let Some(bytes) = resident_bytes() {
        page.0.push(gauge("process_resident_memory_bytes", "Memory in use.", bytes));
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        page.0.push(gauge("process_open_fds", "Open file descriptors.", entries.count() as f64));
    }
}

/// Memory of the process that is resident; none where the kernel does not tell.
pub(super) fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

type Series = (Vec<(&'static str, String)>, f64);

fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    gauges(name, help, [(Vec::new(), value)])
}

fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    counters(name, help, [(Vec::new(), value)])
}

fn gauges(name: &str, help: &str, series: impl IntoIterator<Item = Series>) -> MetricFamily {
    let set = |metric: &mut Metric, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    };
    filled(family(name, help, MetricType::GAUGE), series, set)
}

fn counters(name: &str, help: &str, series: impl IntoIterator<Item = Series>) -> MetricFamily {
    let set = |metric: &mut Metric, value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    };
    filled(family(name, help, MetricType::COUNTER), series, set)
}

fn filled(
    mut family: MetricFamily,
    series: impl IntoIterator<Item = Series>,
    set: fn(&mut Metric, f64),
) -> MetricFamily {
    let metrics = series.into_iter().map(|(labels, value)| {
        let mut metric = labelled(labels);
        set(&mut metric, value);
        metric
    });
    family.set_metric(metrics.collect());
    family
}

fn histogram(service: &str, reading: &Reading) -> Metric {
    // Of the histogram's own count, so that the last bucket agrees with the sum whatever is counted meanwhile.
    let all = reading.histogram().last().map_or(0, |(_, count)| *count);
    let buckets = BOUNDS_MICROS.map(|bound| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound as f64 / 1e6);
        bucket.set_cumulative_count(all.saturating_sub(reading.slower_than(bound)));
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.into());
    histogram.set_sample_count(all);
    histogram.set_sample_sum(reading.total_us as f64 / 1e6);
    let mut metric = labelled(vec![("service", service.to_owned())]);
    metric.set_histogram(histogram);
    metric
}

fn labelled(names: Vec<(&'static str, String)>) -> Metric {
    let pairs = names.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    Metric::from_label(pairs.collect())
}
