//! The routes of profiles: they are found by whose they are.

use std::collections::BTreeMap;

use berth_sdk::{
    entity::Patch,
    prelude::*,
    serde_json::{Map, Value},
};

use super::{Profile, Skill, skill};
use crate::{
    alert, load,
    pages::{cut, page_of, require_sort},
    rights,
};

const PATH: &str = "/api/resources";
/// Changing everybody's profile.
const MANAGE: &str = "resources.resource.manage";
/// What the list is sorted by for those who do not see what everybody costs.
const SORTS: &[&str] = &["userId", "weeklyHours", "timezone", "region", "id", "createdAt", "updatedAt", "createdBy"];
/// Profiles whose skills are counted.
const COUNTED_MAX: i64 = 5_000;

/// The routes.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{userId}}");
    Router::new()
        .get(PATH, list)
        .summary("List profiles; by region, teamId and skill.")
        .sorts(SORTS)
        .post(PATH, make)
        .summary("Create a profile, one's own or of somebody one leads.")
        .get(&format!("{PATH}/skills"), skills)
        .summary("List the skills there are, and how many have them.")
        .sorts(&["skill", "people"])
        .get(&row, read)
        .summary("Read a profile.")
        .put(&row, change)
        .summary("Update a profile.")
        .delete(&row, remove)
        .summary("Delete a profile.")
        .get(&format!("{row}/availability"), crate::report::availability::answer)
        .summary("Find out how much somebody can work, day by day.")
}

/// What a list can be narrowed by.
#[data]
struct Filter {
    /// In this team.
    team_id: Option<Id>,
    /// With this skill.
    #[field(max = 100)]
    skill: Option<String>,
}

fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<Json<Page<Map<String, Value>>>> {
    if !rights::is_manager() {
        require_sort(&query, SORTS)?;
    }
    let mut select = Select::<Profile>::new();
    if let Some(id) = &filter.team_id {
        select = select.condition("CAST(team_ids AS TEXT) LIKE ? ESCAPE '!'", [database::like::entry(id)]);
    }
    if let Some(name) = &filter.skill {
        let wanted = skill::key(name);
        let profiles = Select::<Profile>::new().limit(COUNTED_MAX).all(&Pool)?;
        let able = profiles.into_iter().filter(|row| skill::level(&row.skills, &wanted) > 0);
        select = select.one_of("id", able.map(|row| row.id).take(load::PEOPLE_MAX));
    }
    let mut page = page_of(select, &query)?;
    for row in &mut page.items {
        mask(row)?;
    }
    Ok(Json(page))
}

/// What an hour of somebody costs is theirs and their leads' to know.
fn mask(row: &mut Map<String, Value>) -> Result<()> {
    let user_id = Id::from(row.get("userId").and_then(Value::as_str).unwrap_or_default());
    let has_cost = row.get("costRateMicro").is_some_and(|cost| !cost.is_null());
    if has_cost && !rights::is_concerned(&user_id)? {
        row.insert("costRateMicro".into(), Value::Null);
    }
    Ok(())
}

/// A profile as the caller may see it, with its `ETag`.
fn shown(row: &Stored<Profile>, status: u16) -> Result<Response> {
    let mut fields = row.shown();
    mask(&mut fields)?;
    Ok(Response::json(status, &fields)?.with_version(row.version))
}

fn make(Json(mut profile): Json<Profile>) -> Result<Response> {
    require_write(&profile.user_id)?;
    if !people::is_member(&profile.user_id)? {
        return Err(Problem::field("userId", "is nobody of this organization"));
    }
    require_cost(profile.cost_rate_micro.is_some())?;
    if profile.team_ids.is_empty() {
        profile.team_ids = people::teams_of(&profile.user_id)?;
    }
    let row = database::transaction(|transaction| {
        load::hold(transaction, &profile.user_id)?;
        if Profile::find(transaction, &profile.user_id)?.is_some() {
            return Err(Problem::conflict("There is a profile of this user already.").with_code("PROFILE_EXISTS"));
        }
        load::forget(transaction);
        entity::create(transaction, profile)
    })?;
    shown(&row, 201)
}

fn read(Params(user_id): Params<Id>) -> Result<Response> {
    shown(&of(&Pool, &user_id)?, 200)
}

fn change(Params(user_id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<Profile>) -> Result<Response> {
    // Whether it is there is found out before whether the caller may change it.
    let id = of(&Pool, &user_id)?.id;
    require_write(&user_id)?;
    require_cost(patch.contains_key("costRateMicro"))?;
    let row = database::transaction(|transaction| {
        load::hold(transaction, &user_id)?;
        load::forget(transaction);
        entity::update::<Profile>(transaction, &id, &patch, if_match)
    })?;
    shown(&row, 200)
}

fn remove(Params(user_id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    database::transaction(|transaction| {
        let id = of(transaction, &user_id)?.id;
        load::hold(transaction, &user_id)?;
        entity::delete::<Profile>(transaction, &id, if_match)?;
        // From here on they work as is usual.
        alert::review_coming(transaction, &user_id)
    })?;
    Ok(NoContent)
}

/// 404 when there is none.
fn of(database: &dyn Executor, user_id: &str) -> Result<Stored<Profile>> {
    Profile::find(database, user_id)?.ok_or_else(|| Problem::missing("profile"))
}

/// 403 unless it is the caller's own or of somebody they lead.
fn require_write(user_id: &Id) -> Result<()> {
    if auth::has(MANAGE) || rights::is_concerned(user_id)? {
        return Ok(());
    }
    Err(Problem::forbidden("A profile is written by whose it is, or by who leads them."))
}

/// 403 unless the caller may say what somebody costs.
fn require_cost(is_told: bool) -> Result<()> {
    if is_told { auth::require(MANAGE) } else { Ok(()) }
}

/// A skill that somebody has.
#[data]
struct Known {
    skill: String,
    /// How many have it.
    people: usize,
    /// Of those who have it.
    average_level: f64,
    highest_level: i64,
}

fn skills(query: PageQuery) -> Result<Json<Page<Known>>> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for row in Select::<Profile>::new().limit(COUNTED_MAX).all(&Pool)? {
        for Skill { skill: name, level } in row.data.skills.into_iter().filter(|skill| skill.level > 0) {
            let empty = || Known { skill: name.clone(), people: 0, average_level: 0.0, highest_level: 0 };
            let one = known.entry(skill::key(&name)).or_insert_with(empty);
            one.people += 1;
            #[expect(clippy::cast_precision_loss, reason = "levels are up to five")]
            let level_part = level as f64;
            // The sum, until all of them are there.
            one.average_level += level_part;
            one.highest_level = one.highest_level.max(level);
        }
    }
    let mut known: Vec<Known> = known.into_values().collect();
    for one in &mut known {
        #[expect(clippy::cast_precision_loss, reason = "people of one organization")]
        let people = one.people as f64;
        one.average_level = crate::workload::rounded(one.average_level / people);
    }
    match (query.sort_by.as_deref(), query.descending) {
        (None | Some("skill"), Some(true)) => known.reverse(),
        (None | Some("skill"), _) => {}
        (Some("people"), Some(true)) => known.sort_by_key(|one| std::cmp::Reverse(one.people)),
        (Some("people"), _) => known.sort_by_key(|one| one.people),
        (Some(_), _) => return Err(Problem::field("sortBy", "must be one of skill, people")),
    }
    Ok(Json(cut(&query, known)))
}
