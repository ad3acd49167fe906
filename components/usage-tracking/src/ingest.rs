//! Taking events in: each is stored, priced, counted and summed up in one transaction, once.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::prelude::*;

use crate::{
    access, aggregate,
    aggregate::{Key, Sum},
    alert, category, counter,
    event::{AHEAD, LATE, NewEvent, Rejection, Reported},
    limits::{self, Action, Limit, Subject},
    period::{self, Span},
    pricing,
};

/// Too old, or from the future.
pub(crate) const TOO_LATE: &str = "OUT_OF_TIME";
/// Over a hard limit.
pub(crate) const OVER_LIMIT: &str = "QUOTA_EXCEEDED";
/// Of no known category.
const UNKNOWN: &str = "UNKNOWN_CATEGORY";
/// Rows of one INSERT: 16 columns each, 500 parameters at most.
const INSERTED: usize = 30;
/// Keys of one look-up.
const LOOKED_UP: usize = 400;

/// What became of a report.
pub(crate) struct Outcome {
    pub reported: Reported,
    /// Of the hard limit that refused something: when there is room again.
    pub reset_at: Option<Timestamp>,
}

/// An event on its way in.
struct Incoming {
    index: usize,
    key: String,
    event: NewEvent,
    event_id: String,
    source: String,
    user_id: Option<String>,
    occurred_at: Timestamp,
    cost_micro: i64,
    /// The category it was reported with, where that is none: it is kept as `uncategorized`.
    unknown: Option<String>,
}

impl Incoming {
    fn subject<'a>(&'a self, organization_id: &'a str) -> Subject<'a> {
        Subject {
            organization_id,
            user_id: self.user_id.as_deref(),
            project_id: self.event.project_id.as_deref(),
            team_id: self.event.team_id.as_deref(),
            category_code: &self.event.category_code,
            dimensions: &self.event.dimensions,
        }
    }
}

/// What a counter holds, and whether it was changed.
struct Counted {
    value: f64,
    before: f64,
    period: (Timestamp, Timestamp),
}

/// Everything known before the first event.
struct Desk<'a> {
    transaction: &'a Transaction,
    organization_id: String,
    zone: chrono_tz::Tz,
    limits: Vec<Limit>,
    prices: &'a [Stored<pricing::Price>],
    /// What each category is priced by.
    primary: &'a BTreeMap<String, String>,
    counters: BTreeMap<String, Counted>,
}

/// Waits for the organization's turn: from here on nobody else adds to its sums until the transaction ends. It is the first
/// thing a transaction does.
pub(crate) fn take_turn(transaction: &Transaction, organization_id: &str) -> Result<()> {
    transaction.execute(
        "INSERT INTO usage_turns (organization_id, turns) VALUES ($1, 1) \
         ON CONFLICT (organization_id) DO UPDATE SET turns = usage_turns.turns + 1",
        params![organization_id],
    )?;
    Ok(())
}

/// Takes events in, for the caller's organization.
pub(crate) fn run(events: Vec<NewEvent>, source: &str, enforce: bool) -> Result<Outcome> {
    // Before the transaction: it may ask the main app.
    let zone = access::zone();
    database::transaction(|transaction| run_within(transaction, events, source, enforce, zone))
}

/// The same in a transaction that is there already, in which nothing else was done yet but to note a message as handled.
pub(crate) fn run_within(
    transaction: &Transaction,
    events: Vec<NewEvent>,
    source: &str,
    enforce: bool,
    zone: chrono_tz::Tz,
) -> Result<Outcome> {
    let organization_id = auth::organization_id()?.into_string();
    take_turn(transaction, &organization_id)?;
    let mut outcome =
        Outcome { reported: Reported { accepted: 0, duplicates: 0, rejected: Vec::new() }, reset_at: None };
    let incoming = on_time(events, source, &organization_id, &mut outcome.reported);
    let mut incoming = fresh(transaction, incoming, &mut outcome.reported)?;
    let categories = category::all(transaction)?;
    categorize(&categories, &mut incoming);
    let prices = pricing::all(transaction)?;
    let primary = categories.into_iter().map(|row| (row.data.code, row.data.primary_metric)).collect();
    let mut desk = Desk {
        transaction,
        organization_id,
        zone,
        limits: limits::all(transaction)?,
        prices: &prices,
        primary: &primary,
        counters: BTreeMap::new(),
    };
    let mut stored = Vec::with_capacity(incoming.len());
    for mut event in incoming {
        desk.price(&mut event)?;
        if enforce && let Some((name, reset_at)) = desk.over_hard_limit(&event)? {
            outcome.reset_at = outcome.reset_at.max(Some(reset_at));
            let message = format!("The hard limit {name} is reached.");
            outcome.reported.rejected.push(rejection(&event, OVER_LIMIT, message, None));
            continue;
        }
        desk.count(&event)?;
        if let Some(unknown) = &event.unknown {
            let message = format!("There is no active category {unknown}.");
            outcome.reported.rejected.push(rejection(&event, UNKNOWN, message, Some(category::UNCATEGORIZED)));
        }
        stored.push(event);
    }
    insert(transaction, &desk.organization_id, &stored)?;
    aggregate::add(transaction, &desk.organization_id, &sums(&stored))?;
    desk.finish()?;
    let accepted = stored.iter().filter(|event| event.unknown.is_none()).count();
    outcome.reported.accepted = i64::try_from(accepted).unwrap_or(i64::MAX);
    outcome.reported.rejected.sort_by_key(|rejection| rejection.index);
    Ok(outcome)
}

fn rejection(event: &Incoming, code: &str, message: String, stored_as: Option<&str>) -> Rejection {
    Rejection {
        index: i64::try_from(event.index).unwrap_or(i64::MAX),
        event_id: Some(event.event_id.clone()),
        code: code.into(),
        message,
        stored_as: stored_as.map(Into::into),
    }
}

/// Sorts out what comes too late.
fn on_time(events: Vec<NewEvent>, source: &str, organization_id: &str, reported: &mut Reported) -> Vec<Incoming> {
    let now = clock::now();
    let caller = auth::principal().user_id;
    let mut incoming = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let source = event.source_module.clone().unwrap_or_else(|| source.into());
        let event_id = event.event_id.clone().unwrap_or_else(|| Id::new().into_string());
        let event = Incoming {
            index,
            // A bar stands in no id of an event and in no id of an organization.
            key: format!("{organization_id}|{event_id}|{source}"),
            user_id: event.user_id.as_ref().map(|id| id.as_str().to_string()).or_else(|| caller.clone()),
            occurred_at: event.occurred_at.unwrap_or(now),
            cost_micro: 0,
            unknown: None,
            event_id,
            source,
            event,
        };
        if event.occurred_at < now.minus(LATE) || event.occurred_at > now.plus(AHEAD) {
            let message = "It happened more than seven days ago, or has not happened yet.".to_string();
            reported.rejected.push(rejection(&event, TOO_LATE, message, None));
        } else {
            incoming.push(event);
        }
    }
    incoming
}

/// Sorts out what is known already.
fn fresh(transaction: &Transaction, incoming: Vec<Incoming>, reported: &mut Reported) -> Result<Vec<Incoming>> {
    let keys: Vec<&str> = incoming.iter().map(|event| event.key.as_str()).collect();
    let mut known = BTreeSet::new();
    for chunk in keys.chunks(LOOKED_UP) {
        let values: Vec<database::Value> = chunk.iter().map(|key| (*key).into()).collect();
        let places: Vec<String> = (1..=values.len()).map(|place| format!("${place}")).collect();
        let places = places.join(", ");
        let sql = format!(
            "SELECT event_key FROM usage_events WHERE event_key IN ({places}) \
             UNION ALL SELECT event_key FROM usage_event_keys WHERE event_key IN ({places})"
        );
        for row in transaction.query(&sql, &values)? {
            known.insert(row.get::<String>("event_key")?);
        }
    }
    let before = incoming.len();
    let fresh: Vec<Incoming> = incoming.into_iter().filter(|event| known.insert(event.key.clone())).collect();
    reported.duplicates = i64::try_from(before - fresh.len()).unwrap_or(i64::MAX);
    Ok(fresh)
}

/// Usage of no known or no active category is kept as `uncategorized`, with what it said.
fn categorize(categories: &[Stored<category::Category>], incoming: &mut [Incoming]) {
    let known: BTreeSet<&str> =
        categories.iter().filter(|category| category.is_active).map(|category| category.code.as_str()).collect();
    for event in incoming {
        if known.contains(event.event.category_code.as_str()) {
            continue;
        }
        let said = std::mem::replace(&mut event.event.category_code, category::UNCATEGORIZED.into());
        logging::warn!("usage of an unknown category was reported", category = said, source = event.source);
        event.event.metadata = Some(json!({ "categoryCode": said, "metadata": event.event.metadata }));
        event.unknown = Some(said);
    }
}

impl<'a> Desk<'a> {
    /// Prices an event; a tiered price by what the period has seen so far.
    fn price(&mut self, event: &mut Incoming) -> Result<()> {
        let code = event.event.category_code.as_str();
        if code == category::ADJUSTMENT {
            let amount = event.event.metrics.get("amountMicro").copied().unwrap_or(0.0);
            event.cost_micro = limits::whole(amount);
            return Ok(());
        }
        let Some(price) = pricing::find(self.prices, code, &event.event.dimensions, event.occurred_at) else {
            return Ok(());
        };
        let metric = self.metric_of(code);
        let quantity = event.event.metrics.get(metric).copied().unwrap_or(0.0);
        let before = if price.pricing_model == category::PricingModel::Tiered {
            let (name, _) = self.touch(&tier_limit(price, metric), None, event.occurred_at)?;
            self.counters.get(&name).map_or(0.0, |counted| counted.value)
        } else {
            0.0
        };
        event.cost_micro = pricing::cost(price, metric, quantity, before);
        Ok(())
    }

    /// What a category is priced by.
    fn metric_of(&self, code: &str) -> &'a str {
        self.primary.get(code).map_or("count", String::as_str)
    }

    /// The first hard limit that the event would go over.
    fn over_hard_limit(&mut self, event: &Incoming) -> Result<Option<(String, Timestamp)>> {
        let organization_id = self.organization_id.clone();
        let subject = event.subject(&organization_id);
        let hard: Vec<Limit> = self
            .limits
            .iter()
            .filter(|limit| limit.action == Action::HardLimit && limit.counts(&subject))
            .cloned()
            .collect();
        for limit in hard {
            let (name, period) = self.touch(&limit, limit.user(&subject), event.occurred_at)?;
            let value = self.counters.get(&name).map_or(0.0, |counted| counted.value);
            let more = limit.quantity(&event.event.metrics, event.cost_micro);
            if more > 0.0 && value + more > limit.most() {
                return Ok(Some((limit.name, period.1)));
            }
        }
        Ok(None)
    }

    /// Adds an event to every counter it belongs to: that of each limit, and of each tiered price whose volume it is part of,
    /// whichever price it has itself. A counter that is made anew has the same sum.
    fn count(&mut self, event: &Incoming) -> Result<()> {
        let organization_id = self.organization_id.clone();
        let subject = event.subject(&organization_id);
        let mut counting: Vec<Limit> = self.limits.iter().filter(|limit| limit.counts(&subject)).cloned().collect();
        let code = event.event.category_code.as_str();
        let tiered = self.prices.iter().filter(|price| {
            price.pricing_model == category::PricingModel::Tiered && price.concerns(code, &event.event.dimensions)
        });
        counting.extend(tiered.map(|price| tier_limit(price, self.metric_of(code))));
        for limit in counting {
            let more = limit.quantity(&event.event.metrics, event.cost_micro);
            let (name, _) = self.touch(&limit, limit.user(&subject), event.occurred_at)?;
            if let Some(counted) = self.counters.get_mut(&name) {
                counted.value += more;
            }
        }
        Ok(())
    }

    /// Has a counter at hand: from the table, or made of what is summed up there.
    fn touch(
        &mut self,
        limit: &Limit,
        user_id: Option<&str>,
        at: Timestamp,
    ) -> Result<(String, (Timestamp, Timestamp))> {
        let period = period::around(limit.span, at, self.zone);
        let name = counter::name(&self.organization_id, limit, user_id, period.0);
        if !self.counters.contains_key(&name) {
            let found = counter::values(self.transaction, std::slice::from_ref(&name))?.remove(&name);
            let value = match found {
                Some(value) => value,
                None => counter::rebuilt(self.transaction, &self.organization_id, limit, user_id, period, self.zone)?,
            };
            self.counters.insert(name.clone(), Counted { value, before: value, period });
        }
        Ok((name, period))
    }

    /// Writes the counters, and warns where a threshold was crossed.
    fn finish(&self) -> Result<()> {
        let by_id: BTreeMap<&str, &Limit> = self.limits.iter().map(|limit| (limit.id.as_str(), limit)).collect();
        for (name, counted) in &self.counters {
            counter::set(self.transaction, &self.organization_id, name, counted.value, counted.period)?;
            let mut parts = name.split('|');
            let Some(limit) = parts.next().and_then(|id| by_id.get(id)) else { continue };
            let user_id = parts.nth(1).filter(|user| !user.is_empty());
            if limit.is_budget && !limit.is_global && user_id.is_none() {
                counter::show_budget(self.transaction, &limit.id, counted.value, counted.period.0)?;
            }
            if counted.value > counted.before {
                alert::crossed(self.transaction, limit, user_id, counted.before, counted.value, counted.period)?;
            }
        }
        Ok(())
    }
}

/// A tiered price counts like a limit: the organization's volume of its category, or of its dimension, in the month.
fn tier_limit(price: &Stored<pricing::Price>, metric: &str) -> Limit {
    let filters = price.dimension_key.clone().zip(price.dimension_value.clone());
    Limit {
        id: price.id.as_str().into(),
        // Another metric of the category is another volume.
        edition: format!("{}.{metric}", price.version),
        name: String::new(),
        is_budget: false,
        scope: limits::Scope::Organization,
        scope_id: None,
        pattern: Some(price.category_code.clone()),
        metric: Some(metric.into()),
        filters: filters.into_iter().collect(),
        span: Span::Month,
        limit: i64::MAX,
        warn: 100,
        critical: 100,
        action: Action::Warn,
        is_global: false,
    }
}

fn insert(transaction: &Transaction, organization_id: &str, events: &[Incoming]) -> Result<()> {
    let principal = auth::principal();
    let now = clock::now();
    for chunk in events.chunks(INSERTED) {
        let mut values: Vec<database::Value> = vec![organization_id.into(), (&principal.user_id).into(), now.into()];
        let mut places = Vec::with_capacity(chunk.len());
        for incoming in chunk {
            let event = &incoming.event;
            let first = values.len() + 1;
            values.extend([
                Id::new().into(),
                incoming.key.as_str().into(),
                incoming.event_id.as_str().into(),
                (&incoming.user_id).into(),
                (&event.project_id).into(),
                (&event.team_id).into(),
                event.category_code.as_str().into(),
                incoming.source.as_str().into(),
                (&event.source_resource_id).into(),
                (&event.source_action).into(),
                json!(event.metrics).into(),
                json!(event.dimensions).into(),
                incoming.cost_micro.into(),
                event.metadata.as_ref().map_or(database::Value::Null, Into::into),
                incoming.occurred_at.into(),
            ]);
            let own: Vec<String> = (first..=values.len()).map(|place| format!("${place}")).collect();
            let (id, rest) = own.split_first().ok_or_else(Problem::internal)?;
            places.push(format!("({id}, $1, $2, $3, $3, 1, {}, $3)", rest.join(", ")));
        }
        let sql = format!(
            "INSERT INTO usage_events (id, organization_id, created_by, created_at, updated_at, version, event_key, event_id, \
             user_id, project_id, team_id, category_code, source_module, source_resource_id, source_action, metrics, dimensions, \
             cost_micro, metadata, occurred_at, received_at) VALUES {}",
            places.join(", ")
        );
        transaction.execute(&sql, &values)?;
    }
    Ok(())
}

/// What the events add to each hour: once for all of it, and once for each dimension.
fn sums(events: &[Incoming]) -> BTreeMap<Key, Sum> {
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    for incoming in events {
        let event = &incoming.event;
        let one = Sum { metrics: event.metrics.clone(), count: 1, cost_micro: incoming.cost_micro };
        let whole = Key {
            period_start: period::around(Span::Hour, incoming.occurred_at, chrono_tz::Tz::UTC).0,
            user_id: incoming.user_id.clone(),
            project_id: event.project_id.as_ref().map(|id| id.as_str().into()),
            team_id: event.team_id.as_ref().map(|id| id.as_str().into()),
            category_code: event.category_code.clone(),
            dimension: None,
        };
        for (key, value) in &event.dimensions {
            let key = Key { dimension: Some((key.clone(), value.clone())), ..whole.clone() };
            sums.entry(key).or_default().add(&one);
        }
        sums.entry(whole).or_default().add(&one);
    }
    sums
}
