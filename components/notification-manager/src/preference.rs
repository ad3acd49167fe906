//! Preferences: what the platform, an organization, a team, a project and a user want to be told, how, and when not.

pub mod quiet;
pub mod resolve;

use std::{collections::BTreeMap, time::Duration};

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
    types::Scope,
};

use crate::{
    directory,
    event::map,
    kinds::{self, Category, Criticality},
};
use resolve::{ChannelPreference, Effective, Override};

/// The permission to write what concerns more than oneself.
pub const MANAGE: &str = "notifications.settings.manage";
/// How long a scope's preferences stay in the cache.
const CACHED: Duration = Duration::from_secs(300);
/// Overrides that one scope can have.
const OVERRIDES_MAX: usize = 200;
/// How often a write that met another one is tried.
const ATTEMPTS_MAX: u32 = 3;

/// The preferences of one scope. What is absent is inherited from the broader scope.
#[entity(table = "notification_preferences", name = "preference", global, sort = "createdAt")]
pub struct Preference {
    /// How far it reaches.
    #[field(immutable)]
    pub scope: Scope,
    /// The team, project or user; the organization itself for ORGANIZATION.
    #[field(immutable)]
    pub scope_id: Option<Id>,
    /// By channel.
    #[field(default)]
    pub channels: BTreeMap<String, ChannelPreference>,
    /// By category.
    #[field(default)]
    pub categories: BTreeMap<String, Override>,
    /// By event type, or by a pattern such as `incident.#`.
    #[field(default)]
    pub event_overrides: BTreeMap<String, Override>,
    /// What matters less is left out.
    pub min_criticality: Option<Criticality>,
    /// As in `22:00`, local time.
    #[field(pattern = r"^([01]\d|2[0-3]):[0-5]\d$")]
    pub quiet_hours_start: Option<String>,
    /// As in `07:00`, local time.
    #[field(pattern = r"^([01]\d|2[0-3]):[0-5]\d$")]
    pub quiet_hours_end: Option<String>,
    /// IANA name.
    #[field(format = "timezone")]
    pub timezone: Option<String>,
    /// The language of the texts, as in `en` or `de-AT`.
    #[field(min = 2, max = 35)]
    pub locale: Option<String>,
    /// Whole quiet days, 0 for Sunday to 6.
    #[field(max = 7)]
    pub quiet_days: Option<Vec<i64>>,
    /// Whether CRITICAL passes quiet hours.
    pub allow_critical: Option<bool>,
    /// Nothing before this moment.
    pub dnd_until: Option<Timestamp>,
}

impl Rules for Preference {
    fn check(&self, faults: &mut Faults) {
        check_channels("channels", &self.channels, faults);
        for (name, wish) in &self.categories {
            let path = format!("categories.{name}");
            if Category::parse(name).is_none() {
                let names: Vec<&str> = Category::ALL.iter().map(|category| category.as_str()).collect();
                faults.add(path.as_str(), format!("is no category; known are {}", names.join(", ")));
            }
            check_channels(&format!("{path}.channels"), &wish.channels, faults);
        }
        if self.event_overrides.len() > OVERRIDES_MAX {
            faults.add("eventOverrides", format!("must have at most {OVERRIDES_MAX} entries"));
        }
        for (pattern, wish) in &self.event_overrides {
            let path = format!("eventOverrides.{pattern}");
            if pattern.is_empty() || pattern.len() > 200 {
                faults.add(path.as_str(), "must have 1 to 200 characters");
            }
            check_channels(&format!("{path}.channels"), &wish.channels, faults);
        }
        for (field, time) in [("quietHoursStart", &self.quiet_hours_start), ("quietHoursEnd", &self.quiet_hours_end)] {
            if time.as_deref().is_some_and(|time| quiet::time_of_day(time).is_none()) {
                faults.add(field, "must be a time such as 22:00");
            }
        }
        if self.timezone.as_deref().is_some_and(|name| quiet::time_zone(name).is_none()) {
            faults.add("timezone", "must be the IANA name of a time zone, such as Europe/Berlin");
        }
        if self.quiet_days.iter().flatten().any(|day| !(0..=6).contains(day)) {
            faults.add("quietDays", "must be days from 0 (Sunday) to 6 (Saturday)");
        }
    }
}

fn check_channels(path: &str, channels: &BTreeMap<String, ChannelPreference>, faults: &mut Faults) {
    for (name, wish) in channels {
        if kinds::Channel::parse(name).is_none() {
            let names: Vec<&str> = kinds::Channel::ALL.iter().map(|channel| channel.as_str()).collect();
            faults.add(format!("{path}.{name}"), format!("is no channel; known are {}", names.join(", ")));
        }
        if wish.address.as_ref().is_some_and(|address| address.len() > 500 || address.contains(char::is_control)) {
            faults.add(format!("{path}.{name}.address"), "must be one line of at most 500 characters");
        }
    }
}

/// Whose preferences a path names.
struct Target {
    scope: Scope,
    scope_id: Option<Id>,
}

impl Target {
    /// Reads the path and judges whether the caller may read or write there.
    fn read(scope: &str, scope_id: Option<Id>, is_write: bool) -> Result<Self> {
        let scope = Scope::parse(&scope.to_uppercase())
            .ok_or_else(|| Problem::field("scope", "must be one of GLOBAL, ORGANIZATION, TEAM, PROJECT, USER"))?;
        let principal = auth::principal();
        let scope_id = match scope {
            Scope::Global => None,
            Scope::Organization => {
                let own = auth::organization_id()?;
                if scope_id.is_some_and(|id| id != own) {
                    return Err(Problem::missing("organization"));
                }
                Some(own)
            }
            Scope::Team | Scope::Project => {
                Some(scope_id.ok_or_else(|| Problem::field("scopeId", "is required for this scope"))?)
            }
            Scope::User => Some(match scope_id {
                Some(id) => id,
                None => auth::user_id()?,
            }),
        };
        match scope {
            Scope::Global if is_write && !principal.is_platform => {
                return Err(Problem::forbidden("Only the platform's administrators write GLOBAL preferences."));
            }
            Scope::User if scope_id.as_deref() == principal.user_id.as_deref() => {}
            Scope::User => {
                auth::require(MANAGE)?;
                if let Some(id) = &scope_id {
                    directory::require_member(id)?;
                }
            }
            _ if is_write => auth::require(MANAGE)?,
            _ => auth::require("notifications.notification.read")?,
        }
        Ok(Self { scope, scope_id })
    }

    fn cache_key(&self) -> String {
        cache_key(self.scope, self.scope_id.as_deref())
    }

    fn find(&self, database: &dyn Executor) -> Result<Option<Stored<Preference>>> {
        let select = Select::<Preference>::new().equal("scope", self.scope);
        match &self.scope_id {
            Some(id) => select.equal("scope_id", id).first(database),
            None => select.condition("\"scope_id\" IS NULL", [] as [Id; 0]).first(database),
        }
    }
}

fn cache_key(scope: Scope, scope_id: Option<&str>) -> String {
    format!("preference:{scope}:{}", scope_id.unwrap_or_default())
}

/// `GET /api/notifications/preferences/{scope}/{scopeId}`.
pub fn read(Params((scope, id)): Params<(Id, Id)>) -> Result<Stored<Preference>> {
    Target::read(&scope, Some(id), false)?.find(&Pool)?.ok_or_else(|| Problem::missing("preference"))
}

/// `GET /api/notifications/preferences/{scope}`: the own user's, or the own organization's.
pub fn read_own(Params(scope): Params<Id>) -> Result<Stored<Preference>> {
    Target::read(&scope, None, false)?.find(&Pool)?.ok_or_else(|| Problem::missing("preference"))
}

/// `PUT /api/notifications/preferences/{scope}/{scopeId}`.
pub fn write(
    Params((scope, id)): Params<(Id, Id)>,
    if_match: IfMatch,
    Json(fields): Json<Map<String, Value>>,
) -> Result<Stored<Preference>> {
    set(&Target::read(&scope, Some(id), true)?, if_match, &fields)
}

/// `PUT /api/notifications/preferences/{scope}`.
pub fn write_own(
    Params(scope): Params<Id>,
    if_match: IfMatch,
    Json(fields): Json<Map<String, Value>>,
) -> Result<Stored<Preference>> {
    set(&Target::read(&scope, None, true)?, if_match, &fields)
}

/// Makes the row of the scope, or merges into it.
fn set(target: &Target, if_match: IfMatch, fields: &Map<String, Value>) -> Result<Stored<Preference>> {
    let mut fields = fields.clone();
    fields.remove("scope");
    fields.remove("scopeId");
    let mut attempt = 1;
    let row = loop {
        let result = database::transaction(|transaction| match target.find(transaction)? {
            Some(row) => entity::update::<Preference>(transaction, &row.id, &fields, if_match),
            None if if_match.0.is_some() => Err(Problem::precondition_failed("There are no preferences here yet.")),
            None => {
                let mut whole = fields.clone();
                whole.insert("scope".into(), json!(target.scope));
                whole.insert("scopeId".into(), json!(target.scope_id));
                entity::create_from::<Preference>(transaction, whole)
            }
        });
        match result {
            // Somebody made the row at the same moment: then it is there to be merged into.
            Err(problem) if problem.status == 409 && if_match.0.is_none() && attempt < ATTEMPTS_MAX => attempt += 1,
            result => break result?,
        }
    };
    cache::del(&target.cache_key());
    Ok(row)
}

/// `DELETE /api/notifications/preferences/{scope}/{scopeId}`.
pub fn remove(Params((scope, id)): Params<(Id, Id)>, if_match: IfMatch) -> Result<NoContent> {
    clear(&Target::read(&scope, Some(id), true)?, if_match)
}

/// `DELETE /api/notifications/preferences/{scope}`.
pub fn remove_own(Params(scope): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    clear(&Target::read(&scope, None, true)?, if_match)
}

fn clear(target: &Target, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let row = target.find(transaction)?.ok_or_else(|| Problem::missing("preference"))?;
        entity::delete::<Preference>(transaction, &row.id, if_match)
    })?;
    cache::del(&target.cache_key());
    Ok(NoContent)
}

/// Whose preferences count for one notification.
pub struct Reader<'a> {
    /// The recipient.
    pub user_id: &'a str,
    /// The team it is about.
    pub team_id: Option<&'a str>,
    /// The project it is about.
    pub project_id: Option<&'a str>,
}

/// What holds for this reader, an event type and a category. At most one query, and none when everything is cached.
pub fn effective(reader: &Reader<'_>, event_type: &str, category: Category) -> Result<Effective> {
    let layers = layers(reader)?;
    let layers: Vec<&Preference> = layers.iter().collect();
    Ok(resolve::resolve(&layers, event_type, category))
}

fn layers(reader: &Reader<'_>) -> Result<Vec<Preference>> {
    let organization_id = auth::organization_id()?;
    let scopes = [
        Some((Scope::Global, None)),
        Some((Scope::Organization, Some(organization_id.as_str()))),
        reader.team_id.map(|id| (Scope::Team, Some(id))),
        reader.project_id.map(|id| (Scope::Project, Some(id))),
        Some((Scope::User, Some(reader.user_id))),
    ];
    let mut found: Vec<(Scope, Option<Id>, Option<Preference>)> = Vec::new();
    let mut missing = false;
    for (scope, id) in scopes.into_iter().flatten() {
        // A cached `null` says that there is none.
        match cache::get::<Option<Preference>>(&cache_key(scope, id)) {
            Some(held) => found.push((scope, id.map(Id::from), held)),
            None => {
                missing = true;
                found.push((scope, id.map(Id::from), None));
            }
        }
    }
    if missing {
        let ids: Vec<Id> = found.iter().filter_map(|(_, id, _)| id.clone()).collect();
        let places = vec!["?"; ids.len()].join(", ");
        let rows = Select::<Preference>::new()
            .condition(&format!("\"scope\" = 'GLOBAL' OR \"scope_id\" IN ({places})"), ids)
            .limit(10)
            .all(&Pool)?;
        for (scope, id, held) in &mut found {
            let row = rows.iter().find(|row| row.scope == *scope && row.scope_id == *id);
            *held = row.map(|row| row.data.clone());
            cache::set_ttl(&cache_key(*scope, id.as_deref()), held, CACHED);
        }
    }
    Ok(found.into_iter().filter_map(|(_, _, held)| held).collect())
}

/// Which preferences are asked for.
#[data]
pub struct Question {
    /// The event type.
    pub event_type: Option<String>,
    /// The category; by the event type when absent.
    pub category: Option<Category>,
    /// The project it is about.
    pub project_id: Option<Id>,
    /// The team it is about.
    pub team_id: Option<Id>,
}

/// What holds for the caller.
#[data]
pub struct Resolved {
    /// The type asked for.
    pub event_type: Option<String>,
    /// Its category.
    pub category: Category,
    /// What holds.
    pub preferences: Effective,
    /// Whether it is quiet now.
    pub is_quiet: bool,
    /// Until when.
    pub quiet_until: Option<Timestamp>,
}

/// `GET /api/notifications/preferences/resolved`.
pub fn resolved(Query(question): Query<Question>) -> Result<Json<Resolved>> {
    let user_id = auth::user_id()?;
    let event_type = question.event_type.clone().unwrap_or_default();
    let category = question.category.unwrap_or_else(|| map::category_of(&event_type));
    let reader =
        Reader { user_id: &user_id, team_id: question.team_id.as_deref(), project_id: question.project_id.as_deref() };
    let preferences = effective(&reader, &event_type, category)?;
    let quiet_until = quiet::quiet_until(&preferences, clock::now());
    Ok(Json(Resolved {
        event_type: question.event_type,
        category,
        preferences,
        is_quiet: quiet_until.is_some(),
        quiet_until,
    }))
}
