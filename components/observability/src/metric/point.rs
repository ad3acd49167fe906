//! A point of a metric.

use std::collections::BTreeMap;

use berth_sdk::{canonical, prelude::*};
use serde::{Deserialize, Serialize};

/// Labels of one series.
const LABELS_MAX: usize = 32;
/// Characters of the name of a metric or a label, and of a label's value.
const NAME_MAX: usize = 200;
const VALUE_MAX: usize = 300;

/// What a metric is.
#[choice]
pub(crate) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// How values are spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Buckets {
    pub count: u64,
    pub sum: f64,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// The upper ends of the buckets but the last.
    pub bounds: Vec<f64>,
    /// Values in each bucket.
    pub counts: Vec<u64>,
}

impl Buckets {
    /// Adds another one; where the bounds differ only count and sum are added.
    pub fn add(&mut self, other: &Self) {
        if self.bounds.is_empty() && self.counts.is_empty() {
            self.bounds.clone_from(&other.bounds);
            self.counts = vec![0; other.counts.len()];
        }
        if self.bounds == other.bounds {
            for (count, more) in self.counts.iter_mut().zip(&other.counts) {
                *count = count.saturating_add(*more);
            }
        }
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        let both = |one: Option<f64>, other: Option<f64>, pick: fn(f64, f64) -> f64| match (one, other) {
            (Some(one), Some(other)) => Some(pick(one, other)),
            (one, other) => one.or(other),
        };
        self.min = both(self.min, other.min, f64::min);
        self.max = both(self.max, other.max, f64::max);
    }

    /// What was added since an earlier one of the same series; all of it after a restart.
    pub fn since(&self, earlier: &Self) -> Self {
        let is_restarted = self.count < earlier.count || self.bounds != earlier.bounds;
        if is_restarted {
            return self.clone();
        }
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Self {
            count: self.count - earlier.count,
            sum: self.sum - earlier.sum,
            min: None,
            max: None,
            bounds: self.bounds.clone(),
            counts,
        }
    }

    /// The value below which a share of the values lie, as far as the buckets tell; none without values.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let rank = share * total as f64;
        let (mut below, mut lower) = (0.0, self.min.unwrap_or(0.0).min(self.bounds.first().copied().unwrap_or(0.0)));
        for (index, count) in self.counts.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a count")]
            let count = *count as f64;
            // The last bucket has no end: what is known of it is the greatest value, or where it begins.
            let upper = self.bounds.get(index).copied().unwrap_or_else(|| self.max.unwrap_or(lower)).max(lower);
            if count > 0.0 && below + count >= rank {
                let inside = lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0);
                // No value lies beyond the greatest and the least.
                return Some(inside.min(self.max.unwrap_or(inside)).max(self.min.unwrap_or(f64::NEG_INFINITY)));
            }
            below += count;
            lower = upper;
        }
        Some(lower)
    }
}

/// A point.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub name: String,
    pub kind: Kind,
    pub unit: String,
    /// A counter's or histogram's point says what was added, and not what there is in all.
    pub is_delta: bool,
    pub service: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    pub buckets: Option<Buckets>,
    pub recorded_ms: i64,
}

fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|letter| *letter != '\0').take(most).collect()
}

impl Point {
    /// The point as it can be stored, or why it cannot.
    pub fn fit(mut self) -> Result<Self, String> {
        if self.name.is_empty() || self.name.chars().count() > NAME_MAX || self.name.chars().any(char::is_control) {
            return Err(format!("name must have 1 to {NAME_MAX} characters"));
        }
        if !self.value.is_finite() {
            return Err("value must be a number".into());
        }
        if self.recorded_ms <= 0 {
            return Err("recordedAt is required".into());
        }
        if self.labels.len() > LABELS_MAX {
            return Err(format!("labels must have at most {LABELS_MAX} entries"));
        }
        if let Some(buckets) = &self.buckets {
            let is_sorted = buckets.bounds.is_sorted_by(|one, other| one < other);
            if !is_sorted || buckets.bounds.len() > 400 || !buckets.sum.is_finite() {
                return Err("buckets must have at most 400 rising bounds".into());
            }
            if !buckets.counts.is_empty() && buckets.counts.len() != buckets.bounds.len() + 1 {
                return Err("buckets must have one count more than bounds".into());
            }
        }
        self.recorded_ms = self.recorded_ms.min(253_402_300_799_000);
        self.unit = cut(&self.unit, 50);
        self.service = cut(&self.service, 200);
        self.labels = self.labels.iter().map(|(name, value)| (cut(name, NAME_MAX), cut(value, VALUE_MAX))).collect();
        Ok(self)
    }

    /// The id of its series: the same name, service, kind and labels.
    pub fn series_id(&self) -> String {
        let parts = json!([self.name, self.service, self.kind.as_str(), self.is_delta, self.labels]);
        canonical::sha256(&parts).get(..32).unwrap_or_default().to_string()
    }

    /// Its hour.
    pub fn hour_ms(&self) -> i64 {
        self.recorded_ms / 3_600_000 * 3_600_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[u64]) -> Buckets {
        Buckets {
            count: counts.iter().sum(),
            sum: 10.0,
            bounds: vec![10.0, 20.0],
            counts: counts.to_vec(),
            ..Buckets::default()
        }
    }

    #[test]
    fn quantiles_are_read_off_the_buckets() {
        assert_eq!(buckets(&[10, 0, 0]).quantile(0.5), Some(5.0));
        assert_eq!(buckets(&[5, 5, 0]).quantile(0.75), Some(15.0));
        assert_eq!(buckets(&[0, 0, 4]).quantile(0.99), Some(20.0), "what lies above is not known");
        assert_eq!(Buckets { max: Some(50.0), ..buckets(&[0, 0, 4]) }.quantile(1.0), Some(50.0));
        assert_eq!(Buckets { max: Some(12.0), ..buckets(&[5, 5, 0]) }.quantile(0.99), Some(12.0));
        assert_eq!(buckets(&[0, 0, 0]).quantile(0.5), None);
    }

    #[test]
    fn buckets_are_added_and_taken_apart() {
        let mut sum = Buckets::default();
        sum.add(&buckets(&[1, 2, 3]));
        sum.add(&buckets(&[1, 0, 0]));
        assert_eq!((sum.counts.as_slice(), sum.count, sum.sum), (&[2, 2, 3][..], 7, 20.0));
        assert_eq!(buckets(&[3, 2, 3]).since(&buckets(&[1, 2, 3])).counts, [2, 0, 0]);
        assert_eq!(buckets(&[1, 0, 0]).since(&buckets(&[1, 2, 3])).counts, [1, 0, 0], "it began anew");
    }
}
