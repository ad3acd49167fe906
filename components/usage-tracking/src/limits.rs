//! Quotas and budgets: how much of something is allowed in a period, and when somebody is warned.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use crate::{
    access, category, counter, ingest,
    period::{self, Span},
};

/// Quotas, and budgets, of one organization.
const LIMITS_MAX: i64 = 500;

/// Whose usage counts.
#[choice(upper)]
pub(crate) enum Scope {
    Global,
    Organization,
    Team,
    Project,
    User,
}

/// The period of a quota.
#[choice(upper)]
pub(crate) enum QuotaPeriod {
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// The period of a budget.
#[choice(upper)]
pub(crate) enum BudgetPeriod {
    Monthly,
    Quarterly,
    Yearly,
}

/// What happens at the limit.
#[choice(upper)]
pub(crate) enum Action {
    Warn,
    SoftLimit,
    HardLimit,
}

/// A quota: so much of a metric in a period.
#[entity(table = "usage_quotas", name = "quota", sort = "name", global)]
pub(crate) struct Quota {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(default = Scope::Organization)]
    pub scope: Scope,
    /// The team, project or user; none with scope USER: each user has the limit of their own.
    #[field(filter, max = 64)]
    pub scope_id: Option<String>,
    /// A category, or `ai.*`, or `*`.
    #[field(filter, min = 1, max = 100)]
    pub category_code: String,
    #[field(min = 1, max = 100)]
    pub metric_key: String,
    /// Only usage with these dimensions.
    pub dimension_filters: Option<BTreeMap<String, String>>,
    pub period: QuotaPeriod,
    #[field(min = 0)]
    pub limit_value: i64,
    #[field(min = 1, max = 100, default = 80)]
    pub warn_threshold: i64,
    #[field(min = 1, max = 100, default = 95)]
    pub critical_threshold: i64,
    #[field(default = Action::Warn)]
    pub action: Action,
    #[field(default = true)]
    pub is_active: bool,
}

/// A budget: so much money in a period.
#[entity(table = "usage_budgets", name = "budget", sort = "name", global)]
pub(crate) struct Budget {
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    #[field(default = Scope::Organization)]
    pub scope: Scope,
    #[field(filter, max = 64)]
    pub scope_id: Option<String>,
    /// Of this category only, or of those below `ai.*`.
    #[field(filter, max = 100)]
    pub category_code: Option<String>,
    pub period: BudgetPeriod,
    #[field(min = 1)]
    pub amount_micro: i64,
    #[field(min = 1, max = 100, default = 80)]
    pub warn_threshold: i64,
    #[field(min = 1, max = 1000, default = 100)]
    pub critical_threshold: i64,
    #[field(default = Action::Warn)]
    pub action: Action,
    /// What was spent in the period; as of the last event or tick of the clock.
    #[field(readonly, default)]
    pub current_usage_micro: i64,
    #[field(readonly)]
    pub period_start_date: Option<Timestamp>,
    #[field(default = true)]
    pub is_active: bool,
}

macro_rules! guarded {
    ($kind:ident) => {
        fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
            access::require_admin()?;
            // Of two that are made at once the later one counts the other.
            ingest::take_turn(transaction, &auth::organization_id()?)?;
            if Select::<$kind>::new().count(transaction)? >= LIMITS_MAX {
                return Err(Problem::unprocessable(format!("An organization has at most {LIMITS_MAX} of them.")));
            }
            Ok(())
        }
        fn before_update(&mut self, _: &Stored<Self>, _: &Transaction) -> Result<()> {
            access::require_admin()
        }
        fn before_delete(_: &Stored<Self>, _: &Transaction) -> Result<()> {
            access::require_admin()
        }
    };
}

impl Rules for Quota {
    fn check(&self, faults: &mut Faults) {
        check_scope(self.scope, self.scope_id.as_deref(), faults);
        if !category::is_pattern(&self.category_code) {
            faults.add("categoryCode", "must be a category, or one with .* at the end, or *");
        }
        if self.critical_threshold < self.warn_threshold {
            faults.add("criticalThreshold", "must not be below warnThreshold");
        }
    }
    guarded!(Quota);
}

impl Rules for Budget {
    fn check(&self, faults: &mut Faults) {
        check_scope(self.scope, self.scope_id.as_deref(), faults);
        if self.category_code.as_deref().is_some_and(|code| !category::is_pattern(code)) {
            faults.add("categoryCode", "must be a category, or one with .* at the end, or *");
        }
        if self.critical_threshold < self.warn_threshold {
            faults.add("criticalThreshold", "must not be below warnThreshold");
        }
    }
    guarded!(Budget);
}

fn check_scope(scope: Scope, id: Option<&str>, faults: &mut Faults) {
    if let Some(id) = id {
        faults.check("scopeId", validate::id(id));
    }
    if id.is_none() && matches!(scope, Scope::Team | Scope::Project) {
        faults.add("scopeId", format!("is needed for the scope {scope}"));
    }
}

/// Who and what a piece of usage is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub organization_id: &'a str,
    pub user_id: Option<&'a str>,
    pub project_id: Option<&'a str>,
    pub team_id: Option<&'a str>,
    pub category_code: &'a str,
    pub dimensions: &'a BTreeMap<String, String>,
}

/// A limit in the one form in which it is counted.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub id: String,
    /// Another one after each change: what counts may be something else then, and is counted anew.
    pub edition: String,
    pub name: String,
    pub is_budget: bool,
    pub scope: Scope,
    pub scope_id: Option<String>,
    /// None: everything.
    pub pattern: Option<String>,
    /// None: the cost.
    pub metric: Option<String>,
    pub filters: BTreeMap<String, String>,
    pub span: Span,
    pub limit: i64,
    pub warn: i64,
    pub critical: i64,
    pub action: Action,
    /// Belongs to everybody, and each organization counts for itself.
    pub is_global: bool,
}

impl From<&Stored<Quota>> for Limit {
    fn from(quota: &Stored<Quota>) -> Self {
        Self {
            id: quota.id.as_str().into(),
            edition: quota.version.to_string(),
            name: quota.name.clone(),
            is_budget: false,
            scope: quota.scope,
            scope_id: quota.scope_id.clone(),
            pattern: Some(quota.category_code.clone()),
            metric: Some(quota.metric_key.clone()),
            filters: quota.dimension_filters.clone().unwrap_or_default(),
            span: match quota.period {
                QuotaPeriod::Hourly => Span::Hour,
                QuotaPeriod::Daily => Span::Day,
                QuotaPeriod::Weekly => Span::Week,
                QuotaPeriod::Monthly => Span::Month,
                QuotaPeriod::Yearly => Span::Year,
            },
            limit: quota.limit_value,
            warn: quota.warn_threshold,
            critical: quota.critical_threshold,
            action: quota.action,
            is_global: quota.organization_id.is_none(),
        }
    }
}

impl From<&Stored<Budget>> for Limit {
    fn from(budget: &Stored<Budget>) -> Self {
        Self {
            id: budget.id.as_str().into(),
            edition: budget.version.to_string(),
            name: budget.name.clone(),
            is_budget: true,
            scope: budget.scope,
            scope_id: budget.scope_id.clone(),
            pattern: budget.category_code.clone(),
            metric: None,
            filters: BTreeMap::new(),
            span: match budget.period {
                BudgetPeriod::Monthly => Span::Month,
                BudgetPeriod::Quarterly => Span::Quarter,
                BudgetPeriod::Yearly => Span::Year,
            },
            limit: budget.amount_micro,
            warn: budget.warn_threshold,
            critical: budget.critical_threshold,
            action: budget.action,
            is_global: budget.organization_id.is_none(),
        }
    }
}

impl Limit {
    /// Whether a piece of usage counts.
    pub(crate) fn counts(&self, subject: &Subject<'_>) -> bool {
        let is_in_scope = match self.scope {
            Scope::Global => true,
            Scope::Organization => self.scope_id.as_deref().is_none_or(|id| id == subject.organization_id),
            Scope::Team => subject.team_id.is_some() && subject.team_id == self.scope_id.as_deref(),
            Scope::Project => subject.project_id.is_some() && subject.project_id == self.scope_id.as_deref(),
            Scope::User => {
                subject.user_id.is_some() && self.scope_id.as_deref().is_none_or(|id| Some(id) == subject.user_id)
            }
        };
        is_in_scope
            && self.pattern.as_deref().is_none_or(|pattern| category::matches(pattern, subject.category_code))
            && self.filters.iter().all(|(key, value)| subject.dimensions.get(key) == Some(value))
    }

    /// The user whose own limit it is, where each has one.
    pub(crate) fn user<'a>(&self, subject: &Subject<'a>) -> Option<&'a str> {
        if self.scope == Scope::User && self.scope_id.is_none() { subject.user_id } else { None }
    }

    /// How much of what is measured there is.
    pub(crate) fn quantity(&self, metrics: &BTreeMap<String, f64>, cost_micro: i64) -> f64 {
        match &self.metric {
            Some(metric) => metrics.get(metric).copied().unwrap_or(0.0),
            #[expect(
                clippy::cast_precision_loss,
                reason = "up to 2^53 micro-cents, ninety million dollars, it is exact"
            )]
            None => cost_micro as f64,
        }
    }

    /// The limit as a number beside others.
    pub(crate) fn most(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "up to 2^53 it is exact")]
        let most = self.limit as f64;
        most
    }

    /// How much of it is used, in percent.
    pub(crate) fn percentage(&self, used: f64) -> f64 {
        if self.limit <= 0 { if used > 0.0 { 100.0 } else { 0.0 } } else { used * 100.0 / self.most() }
    }

    /// The highest threshold that is reached: the limit itself, `critical`, `warn`, in percent.
    pub(crate) fn reached(&self, used: f64) -> Option<i64> {
        let percentage = self.percentage(used);
        let mut thresholds = [self.warn, self.critical, 100];
        thresholds.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        thresholds.into_iter().rev().find(|threshold| percentage >= *threshold as f64 && used > 0.0)
    }
}

/// Every active limit that may count for the organization.
pub(crate) fn all(database: &dyn Executor) -> Result<Vec<Limit>> {
    let quotas = Select::<Quota>::new().equal("is_active", true).limit(LIMITS_MAX * 2).all(database)?;
    let budgets = Select::<Budget>::new().equal("is_active", true).limit(LIMITS_MAX * 2).all(database)?;
    Ok(quotas.iter().map(Limit::from).chain(budgets.iter().map(Limit::from)).collect())
}

/// The question whether something may be done.
#[data]
pub(crate) struct Check {
    #[field(min = 1, max = 100)]
    category_code: String,
    #[field(default)]
    estimated_metrics: BTreeMap<String, f64>,
    estimated_cost_micro: Option<i64>,
    #[field(default)]
    dimensions: BTreeMap<String, String>,
    user_id: Option<Id>,
    project_id: Option<Id>,
    team_id: Option<Id>,
}

/// What one limit says to it.
#[data]
pub(crate) struct Verdict {
    quota_id: Option<String>,
    budget_id: Option<String>,
    name: String,
    action: Action,
    allowed: bool,
    limit: i64,
    current: f64,
    estimated: f64,
    remaining: f64,
    percentage: f64,
    reset_at: Timestamp,
    /// Seconds; where the limit is reached.
    retry_after: Option<i64>,
}

/// What all of them say.
#[data]
pub(crate) struct Verdicts {
    allowed: bool,
    quotas: Vec<Verdict>,
    /// Those that the caller sees.
    budgets: Vec<Verdict>,
    reset_at: Option<Timestamp>,
    retry_after: Option<i64>,
}

/// `POST /api/usage/quotas/check`: tells and counts nothing. A caller that must be exact reports with `enforce`.
pub(crate) fn check(Json(check): Json<Check>) -> Result<Json<Verdicts>> {
    let principal = auth::principal();
    let organization_id = auth::organization_id()?;
    // A service asks for whoever it acts for, who may hold a key that is good for that service and nothing else.
    if principal.source_service.is_none() {
        auth::require("usage.usage.read")?;
    }
    let own = principal.user_id.as_deref();
    let user_id = check.user_id.as_deref().or(own);
    if user_id != own && !access::is_admin() {
        return Err(Problem::forbidden("Only administrators ask for others."));
    }
    if let Some((name, _)) =
        check.estimated_metrics.iter().find(|(_, quantity)| !quantity.is_finite() || **quantity < 0.0)
    {
        return Err(Problem::field(format!("estimatedMetrics.{name}"), "must be a number and not negative"));
    }
    let subject = Subject {
        organization_id: &organization_id,
        user_id,
        project_id: check.project_id.as_deref(),
        team_id: check.team_id.as_deref(),
        category_code: &check.category_code,
        dimensions: &check.dimensions,
    };
    let (now, zone) = (clock::now(), access::zone());
    let mut verdicts =
        Verdicts { allowed: true, quotas: Vec::new(), budgets: Vec::new(), reset_at: None, retry_after: None };
    for limit in all(&Pool)?.iter().filter(|limit| limit.counts(&subject)) {
        let (start, end) = period::around(limit.span, now, zone);
        let current = counter::read(&Pool, &organization_id, limit, limit.user(&subject), (start, end), zone)?;
        let estimated = limit.quantity(&check.estimated_metrics, check.estimated_cost_micro.unwrap_or_default());
        let is_over = current + estimated > limit.most() || (estimated == 0.0 && current >= limit.most());
        let wait = i64::try_from(end.since(now).as_secs()).unwrap_or(i64::MAX);
        let allowed = !(is_over && limit.action == Action::HardLimit);
        if is_over && limit.action != Action::Warn {
            verdicts.allowed &= allowed;
            verdicts.reset_at = verdicts.reset_at.max(Some(end));
            verdicts.retry_after = verdicts.retry_after.max(Some(wait));
        }
        let verdict = Verdict {
            quota_id: (!limit.is_budget).then(|| limit.id.clone()),
            budget_id: limit.is_budget.then(|| limit.id.clone()),
            name: limit.name.clone(),
            action: limit.action,
            allowed,
            limit: limit.limit,
            current,
            estimated,
            remaining: (limit.most() - current).max(0.0),
            percentage: limit.percentage(current),
            reset_at: end,
            retry_after: (is_over && limit.action != Action::Warn).then_some(wait),
        };
        // Of what others spend too the caller learns whether it is in the way, and not how much it is.
        let is_told = !limit.is_budget || limit.scope == Scope::User || access::is_admin();
        match (is_told, limit.is_budget) {
            (false, _) => {}
            (true, true) => verdicts.budgets.push(verdict),
            (true, false) => verdicts.quotas.push(verdict),
        }
    }
    Ok(Json(verdicts))
}

/// How a budget stands.
#[data]
pub(crate) struct BudgetStatus {
    budget_id: Id,
    name: String,
    amount_micro: i64,
    spent_micro: i64,
    remaining_micro: i64,
    percentage: f64,
    period_start: Timestamp,
    period_end: Timestamp,
    /// What will have been spent at the end, if it goes on like this.
    projected_micro: i64,
    projected_percentage: f64,
    is_exceeded: bool,
}

/// The budgets that the caller sees: administrators every one, everybody else those that are for their own usage. What the
/// organization spends is not everybody's to know.
fn visible() -> Select<Budget> {
    match access::only_user() {
        None => Select::new(),
        Some(user_id) => {
            Select::new().condition("\"scope\" = 'USER' AND (\"scope_id\" IS NULL OR \"scope_id\" = ?)", [user_id])
        }
    }
}

fn budget(id: &Id) -> Result<Stored<Budget>> {
    visible().equal("id", id).first(&Pool)?.ok_or_else(|| Problem::missing("budget"))
}

/// `GET /api/usage/budgets`.
pub(crate) fn budgets(query: PageQuery) -> Result<JsonText<Page<Stored<Budget>>>> {
    visible().page(&Pool, &query)
}

/// `GET /api/usage/budgets/{id}`.
pub(crate) fn read_budget(Params(id): Params<Id>) -> Result<Stored<Budget>> {
    budget(&id)
}

/// `GET /api/usage/budgets/{id}/status`.
pub(crate) fn status(Params(id): Params<Id>) -> Result<Json<BudgetStatus>> {
    let budget = budget(&id)?;
    let limit = Limit::from(&budget);
    let (now, zone) = (clock::now(), access::zone());
    let span = period::around(limit.span, now, zone);
    let organization_id = auth::organization_id()?;
    let own = auth::principal().user_id;
    let user = if limit.scope == Scope::User && limit.scope_id.is_none() { own.as_deref() } else { None };
    let spent = counter::read(&Pool, &organization_id, &limit, user, span, zone)?;
    let projected = project(spent, period::elapsed(span, now));
    Ok(Json(BudgetStatus {
        budget_id: id,
        name: budget.name.clone(),
        amount_micro: budget.amount_micro,
        spent_micro: whole(spent),
        remaining_micro: budget.amount_micro.saturating_sub(whole(spent)).max(0),
        percentage: limit.percentage(spent),
        period_start: span.0,
        period_end: span.1,
        projected_micro: whole(projected),
        projected_percentage: limit.percentage(projected),
        is_exceeded: spent >= limit.most(),
    }))
}

/// Straight on: half of the period, twice the spend.
fn project(spent: f64, elapsed: f64) -> f64 {
    if elapsed <= 0.0 { spent } else { spent / elapsed }
}

/// A sum of whole numbers as one.
#[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
pub(crate) fn whole(number: f64) -> i64 {
    number.clamp(-9e18, 9e18) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(scope: Scope, id: Option<&str>, pattern: &str) -> Limit {
        Limit {
            id: "q1".into(),
            edition: "1".into(),
            name: "q".into(),
            is_budget: false,
            scope,
            scope_id: id.map(Into::into),
            pattern: Some(pattern.into()),
            metric: Some("count".into()),
            filters: BTreeMap::new(),
            span: Span::Day,
            limit: 200,
            warn: 80,
            critical: 95,
            action: Action::HardLimit,
            is_global: false,
        }
    }

    #[test]
    fn a_limit_counts_what_is_in_its_scope() {
        let large: BTreeMap<String, String> = [("model".to_string(), "large".to_string())].into();
        let subject = Subject {
            organization_id: "o1",
            user_id: Some("u1"),
            project_id: Some("p1"),
            team_id: None,
            category_code: "ai.completion",
            dimensions: &large,
        };
        for (limit, expected) in [
            (limit(Scope::Organization, None, "ai.*"), true),
            (limit(Scope::Organization, Some("o2"), "ai.*"), false),
            (limit(Scope::User, None, "*"), true),
            (limit(Scope::User, Some("u2"), "*"), false),
            (limit(Scope::Project, Some("p1"), "ai.completion"), true),
            (limit(Scope::Team, Some("t1"), "ai.completion"), false),
            (limit(Scope::Organization, None, "mcp.*"), false),
            (Limit { filters: large.clone(), ..limit(Scope::Organization, None, "*") }, true),
            (
                Limit {
                    filters: [("model".to_string(), "small".to_string())].into(),
                    ..limit(Scope::Organization, None, "*")
                },
                false,
            ),
        ] {
            assert_eq!(limit.counts(&subject), expected, "{limit:?}");
        }
        assert_eq!(limit(Scope::User, None, "*").user(&subject), Some("u1"));
        assert_eq!(limit(Scope::User, Some("u1"), "*").user(&subject), None);
    }

    #[test]
    fn the_highest_threshold_that_is_reached_counts() {
        let limit = limit(Scope::Organization, None, "*");
        for (used, expected) in [
            (0.0, None),
            (159.0, None),
            (160.0, Some(80)),
            (189.9, Some(80)),
            (190.0, Some(95)),
            (200.0, Some(100)),
            (900.0, Some(100)),
        ] {
            assert_eq!(limit.reached(used), expected, "{used}");
        }
        let nothing = Limit { limit: 0, ..limit };
        assert_eq!((nothing.reached(0.0), nothing.reached(1.0)), (None, Some(100)));
    }

    #[test]
    fn a_projection_goes_straight_on() {
        assert_eq!(project(50.0, 0.5), 100.0);
        assert_eq!(project(50.0, 0.0), 50.0);
        assert_eq!(project(0.0, 0.9), 0.0);
        assert_eq!(whole(f64::MAX), 9_000_000_000_000_000_000);
    }
}
