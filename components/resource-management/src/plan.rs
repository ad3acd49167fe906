//! Capacity plans: what would be, were people to come, go, work more or less, or have other things to do. A plan changes
//! nothing of what is.

pub mod simulate;

use berth_sdk::{
    entity::{Column, Kind, Made, Patch},
    prelude::*,
    serde_json::Value,
};
use time_rules::day::Day;

use crate::{allocation::check_span, projects::Visible, rights};

const PATH: &str = "/api/capacity/plans";

/// How far a plan is.
#[choice]
pub enum PlanStatus {
    /// It is being thought about.
    Draft,
    /// It is what is meant to be done.
    Active,
    /// It is kept for the record.
    Archived,
}

/// A plan.
#[entity(table = "capacity_plans", name = "capacity plan", sort = "startDate")]
pub struct Plan {
    /// What it is called.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// The project it is for; it exists for those who see that.
    pub project_id: Option<Id>,
    /// The first day.
    pub start_date: Day,
    /// The last day, with it; at most two years later.
    pub end_date: Day,
    /// How far it is.
    #[field(default = PlanStatus::Draft)]
    pub status: PlanStatus,
    /// What would be other than it is.
    #[field(default)]
    pub scenario: Scenario,
}

impl Rules for Plan {
    fn check(&self, faults: &mut Faults) {
        check_span(self.start_date, self.end_date, "endDate", faults);
        self.scenario.check("scenario", faults);
    }
}

/// What would be other than it is.
#[data]
#[derive(Default)]
pub struct Scenario {
    /// The people it is about; everybody when there are none.
    #[field(default, max = 200)]
    pub user_ids: Vec<Id>,
    /// What would be planned besides.
    #[field(default, max = 200)]
    pub allocations: Vec<Planned>,
    /// Allocations that would not be.
    #[field(default, max = 500)]
    pub without_allocation_ids: Vec<Id>,
    /// Who would be away besides.
    #[field(default, max = 200)]
    pub time_off: Vec<Away>,
    /// Who would work more or less.
    #[field(default, max = 200)]
    pub weekly_hours: Vec<Hours>,
    /// Who would come.
    #[field(default, max = 50)]
    pub hires: Vec<Hire>,
}

impl Column for Scenario {
    const KIND: Kind = Kind::Json;
}

/// Something that would be planned.
#[data]
pub struct Planned {
    /// For whom: a user, or the name of a hire.
    #[field(min = 1, max = 100)]
    pub user_id: String,
    #[field(min = 0, max = 20_000)]
    pub hours: f64,
    pub start_date: Day,
    pub end_date: Day,
}

/// Somebody who would be away.
#[data]
pub struct Away {
    /// A user, or the name of a hire.
    #[field(min = 1, max = 100)]
    pub user_id: String,
    pub start_date: Day,
    pub end_date: Day,
    /// How many hours of each day; none: all of them.
    #[field(min = 0, max = 24)]
    pub hours_per_day: Option<f64>,
}

/// How much somebody would work.
#[data]
pub struct Hours {
    pub user_id: Id,
    #[field(min = 0, max = 168)]
    pub weekly_hours: f64,
}

/// Somebody who would come.
#[data]
pub struct Hire {
    /// What they are called in this plan.
    #[field(min = 1, max = 100, plain)]
    pub name: String,
    /// Hours a week, from Monday to Friday.
    #[field(default = 40.0, min = 0, max = 120)]
    pub weekly_hours: f64,
    /// Their first day.
    pub start_date: Day,
    /// Their last day, where there is one.
    pub end_date: Option<Day>,
}

impl Scenario {
    fn check(&self, field: &str, faults: &mut Faults) {
        for (index, one) in self.allocations.iter().enumerate() {
            check_span(one.start_date, one.end_date, &format!("{field}.allocations[{index}].endDate"), faults);
        }
        for (index, one) in self.time_off.iter().enumerate() {
            check_span(one.start_date, one.end_date, &format!("{field}.timeOff[{index}].endDate"), faults);
        }
        for (index, one) in self.hires.iter().enumerate() {
            if one.end_date.is_some_and(|end| end < one.start_date) {
                faults.add(format!("{field}.hires[{index}].endDate"), "must not be before the beginning");
            }
            if self.hires.iter().take(index).any(|other| other.name == one.name) {
                faults.add(format!("{field}.hires[{index}].name"), "is there twice");
            }
        }
    }
}

/// The routes.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .entity::<Plan>(PATH)
        .get(PATH, list)
        .summary("List capacity plans.")
        .post(PATH, make)
        .summary("Create a capacity plan.")
        .get(&row, read)
        .summary("Read a capacity plan.")
        .put(&row, change)
        .summary("Update a capacity plan.")
        .delete(&row, remove)
        .summary("Delete a capacity plan.")
        .post(&format!("{row}/simulate"), simulate::answer)
        .summary("Compute what would be, beside what is; nothing is changed.")
        .permission(rights::READ)
}

fn list(query: PageQuery) -> Result<JsonText<Page<Stored<Plan>>>> {
    let sql = "SELECT DISTINCT project_id FROM capacity_plans WHERE organization_id = $1 AND project_id IS NOT NULL \
               ORDER BY project_id LIMIT 2000";
    let rows = database::query(sql, params![auth::organization_id()?])?;
    let projects = rows.into_iter().map(|row| row.get("project_id")).collect::<Result<Vec<String>, _>>()?;
    // A plan of a project that does not exist for the caller does not either.
    let mut visible = Visible::default();
    let seen: Vec<String> = projects.into_iter().filter(|id| visible.holds(id)).collect();
    let places = if seen.is_empty() { "NULL".to_string() } else { vec!["?"; seen.len()].join(", ") };
    Select::new().condition(&format!("project_id IS NULL OR project_id IN ({places})"), seen).page(&Pool, &query)
}

fn make(Json(plan): Json<Plan>) -> Result<Made<Plan>> {
    // What is wrong is named before anybody is asked for the project.
    let mut faults = Faults::default();
    plan.check(&mut faults);
    faults.finish()?;
    if let Some(id) = &plan.project_id {
        people::project::require(id)?;
    }
    database::transaction(|transaction| entity::create(transaction, plan)).map(Made)
}

fn read(Params(id): Params<Id>) -> Result<Stored<Plan>> {
    of(&id)
}

fn change(Params(id): Params<Id>, if_match: IfMatch, Patch(patch, _): Patch<Plan>) -> Result<Stored<Plan>> {
    of(&id)?;
    if let Some(id) = patch.get("projectId").and_then(Value::as_str) {
        people::project::require(&Id::parse(id)?)?;
    }
    database::transaction(|transaction| entity::update(transaction, &id, &patch, if_match))
}

fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    of(&id)?;
    database::transaction(|transaction| entity::delete::<Plan>(transaction, &id, if_match))?;
    Ok(NoContent)
}

/// 404 also for a plan of a project that does not exist for the caller.
fn of(id: &Id) -> Result<Stored<Plan>> {
    let row = entity::read::<Plan>(&Pool, id)?;
    if row.project_id.as_ref().is_none_or(|id| Visible::default().holds(id)) {
        return Ok(row);
    }
    Err(Problem::missing(Plan::DEFINITION.name))
}
