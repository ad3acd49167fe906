//! Prices: what a quantity costs. Amounts are whole micro-cents; what is smaller than one is never rounded up.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::{
    access,
    category::{Category, PricingModel},
};

/// Prices that are looked at for one organization.
const PRICES_MAX: i64 = 2_000;
/// Tiers of one price.
const TIERS_MAX: usize = 50;
/// Quantities are counted in millionths.
const SCALE: f64 = 1_000_000.0;

/// A step of a tiered price.
#[data]
pub(crate) struct Tier {
    /// The volume of the period up to which it holds; none for the last one.
    #[field(min = 1)]
    pub up_to: Option<i64>,
    #[field(min = 0)]
    pub unit_price_micro: i64,
}

/// Whose a price is.
#[choice(upper)]
pub(crate) enum PriceScope {
    Global,
    Organization,
}

/// A price.
#[entity(table = "usage_pricing", name = "price", sort = "categoryCode", global)]
pub(crate) struct Price {
    /// GLOBAL: the platform's, for every organization that has none of its own.
    #[field(immutable, default = PriceScope::Organization)]
    pub scope: PriceScope,
    #[field(filter, min = 1, max = 100)]
    pub category_code: String,
    /// Only for usage with this dimension and value.
    #[field(max = 100)]
    pub dimension_key: Option<String>,
    #[field(max = 200)]
    pub dimension_value: Option<String>,
    pub pricing_model: PricingModel,
    #[field(min = 0, default)]
    pub unit_price_micro: i64,
    /// For how many units the price is.
    #[field(min = 1, default = 1)]
    pub unit_multiplier: i64,
    pub tiers: Option<Vec<Tier>>,
    pub effective_from: Timestamp,
    pub effective_to: Option<Timestamp>,
    #[field(default = true)]
    pub is_active: bool,
}

impl Rules for Price {
    fn check(&self, faults: &mut Faults) {
        if self.dimension_key.is_some() != self.dimension_value.is_some() {
            faults.add("dimensionValue", "belongs to a dimensionKey, and the other way round");
        }
        if self.effective_to.is_some_and(|end| end <= self.effective_from) {
            faults.add("effectiveTo", "must be after effectiveFrom");
        }
        let tiers = self.tiers.as_deref().unwrap_or_default();
        match self.pricing_model {
            PricingModel::Tiered if tiers.is_empty() || tiers.len() > TIERS_MAX => {
                faults.add("tiers", format!("must be 1 to {TIERS_MAX} steps"));
            }
            PricingModel::Tiered => {
                let ends: Vec<i64> = tiers.iter().map(|tier| tier.up_to.unwrap_or(i64::MAX)).collect();
                let is_rising = ends.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
                if !is_rising || tiers.last().is_some_and(|tier| tier.up_to.is_some()) {
                    faults.add("tiers", "must rise, and the last one must have no upTo");
                }
            }
            _ if !tiers.is_empty() => faults.add("tiers", "belong to the model TIERED"),
            _ => {}
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_admin()?;
        require_category(transaction, &self.category_code)
    }

    fn before_update(&mut self, old: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        allow_write(old.organization_id.is_none())?;
        require_category(transaction, &self.category_code)
    }

    fn before_delete(row: &Stored<Self>, _: &Transaction) -> Result<()> {
        allow_write(row.organization_id.is_none())
    }
}

impl Price {
    /// Whether usage of a category with these dimensions is what it prices, at whatever time.
    pub(crate) fn concerns(&self, code: &str, dimensions: &BTreeMap<String, String>) -> bool {
        self.category_code == code
            && match (&self.dimension_key, &self.dimension_value) {
                (Some(key), Some(value)) => dimensions.get(key) == Some(value),
                _ => true,
            }
    }
}

fn allow_write(is_global: bool) -> Result<()> {
    if is_global && !auth::principal().is_platform {
        return Err(Problem::forbidden("Only the platform's administrators change what belongs to everybody."));
    }
    access::require_admin()
}

fn require_category(transaction: &Transaction, code: &str) -> Result<()> {
    let found = Select::<Category>::new().equal("code", code).first(transaction)?;
    found.map(|_| ()).ok_or_else(|| Problem::unprocessable("There is no such category."))
}

/// The prices of the organization and of everybody.
pub(crate) fn all(database: &dyn Executor) -> Result<Vec<Stored<Price>>> {
    Select::<Price>::new().equal("is_active", true).limit(PRICES_MAX).all(database)
}

/// The price that holds: a dimension of the organization before one of everybody, before the category of the
/// organization, before that of everybody; of several the newest.
pub(crate) fn find<'a>(
    prices: &'a [Stored<Price>],
    code: &str,
    dimensions: &BTreeMap<String, String>,
    at: Timestamp,
) -> Option<&'a Stored<Price>> {
    let holds = |price: &&Stored<Price>| {
        price.concerns(code, dimensions) && price.effective_from <= at && price.effective_to.is_none_or(|end| at < end)
    };
    prices.iter().filter(holds).max_by_key(|price| {
        (
            price.dimension_key.is_some(),
            price.organization_id.is_some(),
            price.effective_from,
            price.id.as_str().to_string(),
        )
    })
}

/// What a quantity costs. `before` is the volume of the period so far, which a tiered price needs.
pub(crate) fn cost(price: &Price, metric: &str, quantity: f64, before: f64) -> i64 {
    let per =
        |units: f64, divisor: i128| amount(units, price.unit_price_micro, divisor * i128::from(price.unit_multiplier));
    match price.pricing_model {
        PricingModel::None => 0,
        PricingModel::Flat => price.unit_price_micro,
        PricingModel::PerUnit => per(quantity, 1),
        PricingModel::PerThousand => per(quantity, 1_000),
        PricingModel::PerMillion => per(quantity, 1_000_000),
        PricingModel::PerMinute => per(
            quantity,
            if metric.ends_with("Ms") {
                60_000
            } else if metric.ends_with("Seconds") {
                60
            } else {
                1
            },
        ),
        PricingModel::Tiered => tiered(price, quantity, before),
    }
}

/// The part of the quantity in each tier at that tier's price.
fn tiered(price: &Price, quantity: f64, before: f64) -> i64 {
    let (mut from, end) = (millionths(before), millionths(before) + millionths(quantity));
    let mut total: i128 = 0;
    for tier in price.tiers.as_deref().unwrap_or_default() {
        let up_to = tier.up_to.map_or(i128::MAX, |up_to| i128::from(up_to) * 1_000_000);
        let here = end.min(up_to) - from;
        if here > 0 {
            total += here * i128::from(tier.unit_price_micro);
            from += here;
        }
    }
    // One division for all tiers: what is lost is less than one micro-cent an event.
    saturated(total / (1_000_000 * i128::from(price.unit_multiplier.max(1))))
}

fn amount(quantity: f64, unit_price: i64, divisor: i128) -> i64 {
    saturated(millionths(quantity) * i128::from(unit_price) / (1_000_000 * divisor.max(1)))
}

/// Quantities come as JSON numbers; from here on everything is whole.
#[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
fn millionths(quantity: f64) -> i128 {
    (quantity.clamp(0.0, 1e15) * SCALE).round() as i128
}

fn saturated(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use berth_sdk::{json, serde_json, serde_json::Value};
    use proptest::prelude::*;

    use super::*;

    fn price(fields: Value) -> Price {
        let mut whole = json!({"categoryCode": "ai.completion", "pricingModel": "PER_UNIT", "effectiveFrom": "2026-01-01T00:00:00.000Z"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn tiers() -> Price {
        price(json!({"pricingModel": "TIERED", "tiers": [
            {"upTo": 1_000, "unitPriceMicro": 10}, {"upTo": 5_000, "unitPriceMicro": 8}, {"unitPriceMicro": 5}]}))
    }

    #[test]
    fn worked_examples_of_each_model() {
        let of = |fields: Value, metric: &str, quantity: f64| cost(&price(fields), metric, quantity, 0.0);
        // 3 units at 250 micro-cents.
        assert_eq!(of(json!({"unitPriceMicro": 250}), "count", 3.0), 750);
        // 7 units at 100 for every 10: 70.
        assert_eq!(of(json!({"unitPriceMicro": 100, "unitMultiplier": 10}), "count", 7.0), 70);
        // 1 500 at 2 000 a thousand.
        assert_eq!(of(json!({"pricingModel": "PER_THOUSAND", "unitPriceMicro": 2_000}), "tokens", 1_500.0), 3_000);
        // 1 234 tokens at 3 dollars a million: 300 cents = 300 000 000 micro-cents; 370 200.
        assert_eq!(
            of(json!({"pricingModel": "PER_MILLION", "unitPriceMicro": 300_000_000}), "tokens", 1_234.0),
            370_200
        );
        // 90 seconds at 600 a minute.
        assert_eq!(of(json!({"pricingModel": "PER_MINUTE", "unitPriceMicro": 600}), "durationMs", 90_000.0), 900);
        assert_eq!(of(json!({"pricingModel": "PER_MINUTE", "unitPriceMicro": 600}), "minutes", 1.5), 900);
        assert_eq!(of(json!({"pricingModel": "FLAT", "unitPriceMicro": 42}), "count", 9.0), 42);
        assert_eq!(of(json!({"pricingModel": "NONE", "unitPriceMicro": 42}), "count", 9.0), 0);
        // Less than a micro-cent is nothing, and never one.
        assert_eq!(of(json!({"pricingModel": "PER_MILLION", "unitPriceMicro": 999_999}), "tokens", 1.0), 0);
    }

    #[test]
    fn tiers_count_the_volume_of_the_period() {
        let tiers = tiers();
        // The first 800: 800 × 10.
        assert_eq!(cost(&tiers, "count", 800.0, 0.0), 8_000);
        // From 800 to 1 200: 200 × 10 + 200 × 8.
        assert_eq!(cost(&tiers, "count", 400.0, 800.0), 3_600);
        // All at once, 6 000: 1 000 × 10 + 4 000 × 8 + 1 000 × 5.
        assert_eq!(cost(&tiers, "count", 6_000.0, 0.0), 47_000);
        // Exactly at a border.
        assert_eq!(cost(&tiers, "count", 1.0, 1_000.0), 8);
        assert_eq!(cost(&tiers, "count", 1.0, 999.0), 10);
        assert_eq!(cost(&tiers, "count", 10.0, 1_000_000.0), 50);
    }

    fn stored(id: &str, organization: Option<&str>, fields: Value) -> Stored<Price> {
        let now = Timestamp::from_millis(0);
        let organization_id = organization.map(Id::from);
        Stored {
            id: id.into(),
            organization_id,
            created_by: None,
            created_at: now,
            updated_at: now,
            version: 1,
            data: price(fields),
        }
    }

    #[test]
    fn a_dimension_goes_before_a_category_and_an_organization_before_everybody() {
        let dimension = json!({"dimensionKey": "model", "dimensionValue": "large"});
        let mut newer = dimension.clone();
        newer["effectiveFrom"] = json!("2026-06-01T00:00:00.000Z");
        let mut prices = vec![
            stored("category-all", None, json!({})),
            stored("category-own", Some("o1"), json!({})),
            stored("dimension-all", None, dimension.clone()),
            stored("dimension-own", Some("o1"), dimension),
            stored("dimension-new", Some("o1"), newer),
        ];
        let large: BTreeMap<String, String> = [("model".to_string(), "large".to_string())].into();
        let name = |prices: &[Stored<Price>], dimensions: &BTreeMap<String, String>, at: &str| {
            find(prices, "ai.completion", dimensions, Timestamp::parse(at).unwrap())
                .map(|price| price.id.as_str().to_string())
        };
        let (before, after) = ("2026-03-01T00:00:00.000Z", "2026-07-01T00:00:00.000Z");
        let mut found = vec![name(&prices, &large, after)];
        for id in ["dimension-new", "dimension-own", "dimension-all", "category-own"] {
            prices.retain(|price| price.id.as_str() != id);
            found.push(name(&prices, &large, after));
        }
        let found: Vec<&str> = found.iter().flatten().map(String::as_str).collect();
        assert_eq!(found, ["dimension-new", "dimension-own", "dimension-all", "category-own", "category-all"]);
        let prices = [stored("old", None, json!({})), stored("new", None, json!({"effectiveFrom": after}))];
        assert_eq!(name(&prices, &large, before).as_deref(), Some("old"));
        assert_eq!(name(&prices, &large, after).as_deref(), Some("new"));
        assert_eq!(name(&prices, &large, "2025-01-01T00:00:00.000Z"), None);
    }

    proptest! {
        #[test]
        fn what_is_split_costs_at_most_what_it_costs_at_once(parts in proptest::collection::vec(0..3_000_i32, 1..20)) {
            let tiers = tiers();
            let (mut before, mut total) = (0.0, 0);
            for part in &parts {
                total += cost(&tiers, "count", f64::from(*part), before);
                before += f64::from(*part);
            }
            prop_assert_eq!(total, cost(&tiers, "count", before, 0.0));
        }

        #[test]
        fn nothing_is_rounded_up(quantity in 0.0..1e9_f64, unit in 0..1_000_000_i64) {
            let price = price(json!({"pricingModel": "PER_MILLION", "unitPriceMicro": unit}));
            let exact = quantity * unit as f64 / 1e6;
            prop_assert!(cost(&price, "tokens", quantity, 0.0) as f64 <= exact + 1e-3 + exact * 1e-9);
        }
    }
}
