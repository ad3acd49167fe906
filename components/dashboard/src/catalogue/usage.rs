//! What usage-tracking knows: costs, quotas and tokens.

use std::collections::BTreeMap;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Category, Setup, WidgetType};
use crate::{
    consume::Topic,
    data::{
        look::Look,
        step::{Ask, Step},
    },
};

const USAGE: &str = "usage-tracking";
/// The days that are looked at when nothing is said.
const DAYS: u32 = 30;
/// Quotas of one widget.
const QUOTAS_MAX: usize = 8;

pub(super) const TYPES: &[WidgetType] = &[
    WidgetType::new::<Cost>("usage_cost", "Cost", "What was spent, over time or by what.", Category::Usage)
        .reads(USAGE)
        .cached(300, &[Topic::Usage]),
    WidgetType::new::<QuotaBars>("quota_bars", "Quotas", "How much of each quota is used.", Category::Usage)
        .reads(USAGE)
        .cached(60, &[Topic::Usage]),
    WidgetType::new::<Tokens>(
        "ai_tokens",
        "AI tokens",
        "The tokens that language models have read and written.",
        Category::Usage,
    )
    .reads(USAGE)
    .cached(120, &[Topic::Usage]),
];

/// How long a period is.
#[choice(upper)]
enum Granularity {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

/// What sums are told apart by.
#[choice]
enum Group {
    Category,
    User,
    Project,
    Team,
}

/// How costs are set up.
#[data]
struct Cost {
    /// The periods; `DAILY` when neither this nor `groupBy` is there.
    granularity: Option<Granularity>,
    group_by: Option<Group>,
    project_id: Option<Id>,
    /// Categories; `ai.*` is everything below `ai`.
    #[field(default, max = 20)]
    categories: Vec<String>,
}

impl Setup for Cost {
    fn plan(self, look: &Look) -> Result<Step> {
        let granularity = match (self.granularity, self.group_by) {
            (None, None) => Some(Granularity::Daily),
            (granularity, _) => granularity,
        };
        Step::read(question(look, granularity, self.group_by, self.project_id.as_ref(), &self.categories, &[]))
    }
}

/// A question for sums.
fn question(
    look: &Look,
    granularity: Option<Granularity>,
    group_by: Option<Group>,
    project_id: Option<&Id>,
    categories: &[String],
    metrics: &[&str],
) -> Ask {
    let (from, to) = look.days(DAYS);
    let mut body = Map::new();
    body.insert("from".into(), json!(from));
    body.insert("to".into(), json!(to));
    body.insert("categories".into(), json!(categories));
    body.insert("metrics".into(), json!(metrics));
    body.insert("groupBy".into(), json!(group_by.into_iter().collect::<Vec<_>>()));
    if let Some(granularity) = granularity {
        body.insert("granularity".into(), json!(granularity));
    }
    if let Some(project_id) = look.project_id(project_id) {
        body.insert("projectId".into(), project_id.into());
    }
    Ask::post(USAGE, "/api/usage/query", &Value::Object(body))
}

/// How tokens are set up.
#[data]
struct Tokens {
    granularity: Option<Granularity>,
    group_by: Option<Group>,
    project_id: Option<Id>,
}

impl Setup for Tokens {
    fn plan(self, look: &Look) -> Result<Step> {
        let granularity = self.granularity.or(Some(Granularity::Daily)).filter(|_| self.group_by.is_none());
        let categories = ["ai.*".to_string()];
        let metrics = ["inputTokens", "outputTokens", "totalTokens"];
        Step::read(question(look, granularity, self.group_by, self.project_id.as_ref(), &categories, &metrics))
    }
}

/// How quotas are set up.
#[data]
struct QuotaBars {
    /// Only quotas of this category.
    #[field(min = 1, max = 100)]
    category_code: Option<String>,
    /// Only these.
    #[field(max = 8)]
    quota_ids: Option<Vec<Id>>,
}

impl Setup for QuotaBars {
    fn plan(self, look: &Look) -> Result<Step> {
        let user_id = look.user_id.clone();
        let list = Ask::get(USAGE, "/api/usage/quotas")
            .with("limit", "200")
            .with_some("categoryCode", self.category_code.as_deref());
        Step::leading(list, move |page| {
            let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut wanted: Vec<Value> = items
                .into_iter()
                .filter(|quota| quota.get("enabled") != Some(&Value::Bool(false)))
                .filter(|quota| is_for(quota, &user_id))
                .filter(|quota| {
                    self.quota_ids
                        .as_ref()
                        .is_none_or(|ids| ids.iter().any(|id| text(quota, "id") == Some(id.as_str())))
                })
                .collect();
            let is_cut = wanted.len() > QUOTAS_MAX;
            wanted.truncate(QUOTAS_MAX);
            let asks =
                wanted.iter().map(|quota| Ask::post(USAGE, "/api/usage/quotas/check", &subject(quota))).collect();
            Step::made_of_all(asks, move |answers| {
                let bars: Vec<Value> =
                    wanted.iter().zip(&answers).filter_map(|(quota, answer)| bar(quota, answer)).collect();
                Ok(json!({ "quotas": bars, "isCut": is_cut }))
            })
        })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// A user's quota is shown to that user alone.
fn is_for(quota: &Value, user_id: &str) -> bool {
    text(quota, "scope") != Some("USER") || text(quota, "scopeId").is_none_or(|id| id == user_id)
}

/// What a quota is asked about so that it counts: its own category, dimensions and scope.
fn subject(quota: &Value) -> Value {
    let mut subject = BTreeMap::from([("categoryCode", json!(text(quota, "categoryCode").unwrap_or("*")))]);
    if let Some(dimensions @ Value::Object(_)) = quota.get("dimensionFilters") {
        subject.insert("dimensions", dimensions.clone());
    }
    let member = match text(quota, "scope") {
        Some("PROJECT") => Some("projectId"),
        Some("TEAM") => Some("teamId"),
        _ => None,
    };
    if let (Some(member), Some(id)) = (member, text(quota, "scopeId")) {
        subject.insert(member, json!(id));
    }
    json!(subject)
}

/// How full a quota is, as the answer of a check tells.
fn bar(quota: &Value, answer: &Value) -> Option<Value> {
    let verdicts = answer.get("quotas")?.as_array()?;
    let verdict = verdicts.iter().find(|verdict| text(verdict, "quotaId") == text(quota, "id"))?;
    let percentage = verdict.get("percentage").and_then(Value::as_f64).unwrap_or(0.0);
    let reached = |name: &str| quota.get(name).and_then(Value::as_f64).is_some_and(|threshold| percentage >= threshold);
    let level = match (reached("criticalThreshold"), reached("warnThreshold")) {
        (true, _) => "critical",
        (false, true) => "warning",
        (false, false) => "ok",
    };
    let member = |of: &Value, name: &str| of.get(name).cloned().unwrap_or_default();
    Some(json!({
        "quotaId": member(quota, "id"), "name": member(quota, "name"), "categoryCode": member(quota, "categoryCode"),
        "metricKey": member(quota, "metricKey"), "period": member(quota, "period"), "limit": member(verdict, "limit"),
        "current": member(verdict, "current"), "remaining": member(verdict, "remaining"), "percentage": percentage,
        "level": level, "resetAt": member(verdict, "resetAt"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_asked_about_in_its_own_terms() {
        let quota = json!({"categoryCode": "ai.*", "scope": "PROJECT", "scopeId": "p1", "dimensionFilters": {"model": "large"}});
        assert_eq!(
            subject(&quota),
            json!({"categoryCode": "ai.*", "projectId": "p1", "dimensions": {"model": "large"}})
        );
        assert_eq!(
            subject(&json!({"categoryCode": "x", "scope": "ORGANIZATION", "dimensionFilters": null})),
            json!({"categoryCode": "x"})
        );
        assert!(is_for(&json!({"scope": "USER", "scopeId": null}), "me"));
        assert!(!is_for(&json!({"scope": "USER", "scopeId": "other"}), "me"));
    }

    #[test]
    fn a_bar_tells_how_full_its_quota_is() {
        let quota = json!({"id": "q1", "name": "Tokens", "warnThreshold": 80, "criticalThreshold": 95});
        let bar_at = |percentage: f64| {
            let answer = json!({"quotas": [{"quotaId": "q0", "percentage": 1}, {"quotaId": "q1", "percentage": percentage, "limit": 10, "current": 8.5}]});
            bar(&quota, &answer).unwrap()
        };
        assert_eq!(bar_at(85.0)["level"], "warning");
        assert_eq!(bar_at(95.0)["level"], "critical");
        assert_eq!((&bar_at(1.0)["level"], &bar_at(1.0)["current"]), (&json!("ok"), &json!(8.5)));
        assert_eq!(bar(&quota, &json!({"quotas": []})), None);
    }
}
