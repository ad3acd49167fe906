//! The routes of allocations.

use berth_sdk::{
    entity::Patch,
    http,
    prelude::*,
    serde_json::{Map, Value},
};
use time_rules::day::{Day, Span};

use super::{
    Allocation, AllocationStatus, check_span,
    write::{self, Written},
};
use crate::{
    pages::{page_of, require_sort},
    profile::Profile,
    projects::{self, Visible},
    rights,
};

const PATH: &str = "/api/capacity/allocations";
/// What the list is sorted by: nothing that is hidden where the project is.
const SORTS: &[&str] = &[
    "userId",
    "allocatedHours",
    "startDate",
    "endDate",
    "status",
    "percentage",
    "closedOn",
    "id",
    "createdAt",
    "updatedAt",
    "createdBy",
];

/// The routes.
pub fn routes() -> Router {
    let row = format!("{PATH}/{{id}}");
    Router::new()
        .post("/api/capacity/allocate", allocate)
        .summary("Plan hours of somebody for a task; 409 with the numbers when they have not that many.")
        .get(PATH, list)
        .summary("List allocations; those that meet a range with from and to.")
        .sorts(SORTS)
        .post(PATH, make)
        .summary("Create an allocation.")
        .get(&row, read)
        .summary("Read an allocation.")
        .put(&row, change)
        .summary("Update an allocation.")
        .delete(&row, remove)
        .summary("Delete an allocation.")
}

/// The body of `POST /api/capacity/allocate`.
#[data]
struct Short {
    user_id: Id,
    task_id: Option<Id>,
    project_id: Option<Id>,
    #[field(max = 20_000)]
    hours: f64,
    /// The first day.
    start: Day,
    /// The last day, with it.
    end: Day,
    #[field(max = 2_000)]
    note: Option<String>,
    /// Also when it does not fit: it raises an alert.
    #[field(default)]
    force: bool,
}

fn allocate(Json(short): Json<Short>) -> Result<Response> {
    let mut faults = Faults::default();
    if short.hours <= 0.0 {
        faults.add("hours", "must be more than 0");
    }
    check_span(short.start, short.end, "end", &mut faults);
    faults.finish()?;
    planned(Wish {
        user_id: short.user_id,
        project_id: short.project_id,
        task_id: short.task_id,
        allocated_hours: Some(short.hours),
        percentage: None,
        start_date: short.start,
        end_date: short.end,
        status: AllocationStatus::Planned,
        note: short.note,
        force: short.force,
    })
}

/// The body of `POST /api/capacity/allocations`.
#[data]
struct Wish {
    user_id: Id,
    project_id: Option<Id>,
    task_id: Option<Id>,
    /// All the hours; otherwise `percentage` says how many.
    #[field(max = 20_000)]
    allocated_hours: Option<f64>,
    /// So much of the working time of the days, where no hours are told.
    #[field(min = 0, max = 1_000)]
    percentage: Option<f64>,
    start_date: Day,
    end_date: Day,
    #[field(default = AllocationStatus::Planned)]
    status: AllocationStatus,
    #[field(max = 2_000)]
    note: Option<String>,
    /// Also when it does not fit: it raises an alert.
    #[field(default)]
    force: bool,
}

fn make(Json(wish): Json<Wish>) -> Result<Response> {
    let mut faults = Faults::default();
    if wish.allocated_hours.is_none() && wish.percentage.is_none() {
        faults.add("allocatedHours", "is required where there is no percentage");
    }
    if wish.allocated_hours.is_some_and(|hours| hours <= 0.0) {
        faults.add("allocatedHours", "must be more than 0");
    }
    if !wish.status.is_open() {
        faults.add("status", "must be planned or active at the beginning");
    }
    check_span(wish.start_date, wish.end_date, "endDate", &mut faults);
    faults.finish()?;
    planned(wish)
}

fn planned(wish: Wish) -> Result<Response> {
    if !people::is_member(&wish.user_id)? {
        return Err(Problem::field("userId", "is nobody of this organization"));
    }
    let project_id = project_of(wish.project_id, wish.task_id.as_ref())?;
    let written = database::transaction(|transaction| {
        let hours = match (wish.allocated_hours, wish.percentage) {
            (Some(hours), _) => hours,
            (None, percentage) => {
                let pattern = Profile::or_usual(transaction, &wish.user_id)?.pattern();
                let span = Span::new(wish.start_date, wish.end_date);
                pattern.hours(span) * percentage.unwrap_or_default() / 100.0
            }
        };
        let allocation = Allocation {
            user_id: wish.user_id,
            project_id,
            task_id: wish.task_id,
            allocated_hours: hours,
            start_date: wish.start_date,
            end_date: wish.end_date,
            status: wish.status,
            percentage: None,
            note: wish.note,
            closed_on: None,
            origin: None,
            told_at: None,
        };
        write::create(transaction, allocation, wish.force)
    })?;
    answer(&written, 201)
}

/// The project that something is planned for: it must exist for the caller, and be the task's.
fn project_of(project_id: Option<Id>, task_id: Option<&Id>) -> Result<Option<Id>> {
    let Some(task_id) = task_id else {
        if let Some(id) = &project_id {
            people::project::require(id)?;
        }
        return Ok(project_id);
    };
    let task = projects::task(task_id)?;
    match (&project_id, &task.project_id) {
        (Some(told), Some(known)) if told != known => {
            Err(Problem::unprocessable("The task belongs to another project."))
        }
        _ => Ok(task.project_id),
    }
}

fn answer(written: &Written, status: u16) -> Result<Response> {
    let mut shown = written.shown();
    // Whose time it is may change it, and need not see the project.
    Visible::default().mask(&mut shown);
    Ok(Response::json(status, &shown)?.with_version(written.row.version))
}

/// What a list can be narrowed by, besides the fields themselves.
#[data]
struct Filter {
    /// That end on this day or later.
    from: Option<Day>,
    /// That begin on this day or earlier.
    to: Option<Day>,
    project_id: Option<Id>,
    task_id: Option<Id>,
    /// People of this team.
    team_id: Option<Id>,
}

fn list(Query(filter): Query<Filter>, query: PageQuery) -> Result<Json<Page<Map<String, Value>>>> {
    require_sort(&query, SORTS)?;
    let mut select = Select::<Allocation>::new();
    let mut visible = Visible::default();
    // What belongs to something that does not exist for the caller is not found by it either.
    let is_hidden = filter.project_id.as_ref().is_some_and(|id| !visible.holds(id));
    let is_missing = match filter.task_id.as_ref().map(projects::task) {
        Some(Err(problem)) if problem.status == 404 => true,
        Some(Err(problem)) => return Err(problem),
        Some(Ok(_)) | None => false,
    };
    if is_hidden || is_missing {
        select = select.condition("1 = 0", [] as [&str; 0]);
    }
    if let Some(from) = filter.from {
        select = select.condition("end_date >= ?", [from]);
    }
    if let Some(to) = filter.to {
        select = select.condition("start_date <= ?", [to]);
    }
    if let Some(team_id) = &filter.team_id {
        select = select.one_of("user_id", people::team(team_id)?);
    }
    let mut page = page_of(select, &query)?;
    page.items.iter_mut().for_each(|row| visible.mask(row));
    Ok(Json(page))
}

fn read(Params(id): Params<Id>) -> Result<Response> {
    let row = entity::read::<Allocation>(&Pool, &id)?;
    let mut shown = row.shown();
    Visible::default().mask(&mut shown);
    Ok(Response::json(200, &shown)?.with_version(row.version))
}

/// What can be changed of an allocation; what is absent stays as it is.
#[data]
struct Change {
    project_id: Option<Id>,
    task_id: Option<Id>,
    #[field(max = 20_000)]
    allocated_hours: Option<f64>,
    #[field(min = 0, max = 1_000)]
    percentage: Option<f64>,
    start_date: Option<Day>,
    end_date: Option<Day>,
    status: Option<AllocationStatus>,
    #[field(max = 2_000)]
    note: Option<String>,
    /// Also when it does not fit: it raises an alert.
    #[field(default)]
    force: bool,
}

fn change(Params(id): Params<Id>, if_match: IfMatch, Patch(mut fields, _): Patch<Allocation>) -> Result<Response> {
    let told: Change = http::read_value(Value::Object(fields.clone()))?;
    let old = entity::read::<Allocation>(&Pool, &id)?;
    require_visible(&old)?;
    if fields.contains_key("taskId") || fields.contains_key("projectId") {
        let task_id = if fields.contains_key("taskId") { told.task_id } else { old.task_id.clone() };
        // A task of another project brings its project along.
        let told_project = fields.contains_key("projectId").then_some(told.project_id).flatten();
        fields.insert("projectId".into(), json!(project_of(told_project, task_id.as_ref())?));
    }
    // The share of the working time follows from the hours, unless it is what is told.
    if fields.remove("percentage").is_some()
        && let (Some(percentage), None) = (told.percentage, told.allocated_hours)
    {
        let span = Span::new(told.start_date.unwrap_or(old.start_date), told.end_date.unwrap_or(old.end_date));
        let hours = Profile::or_usual(&Pool, &old.user_id)?.pattern().hours(span) * percentage / 100.0;
        fields.insert("allocatedHours".into(), json!(hours));
    }
    let written = database::transaction(|transaction| write::update(transaction, &id, &fields, if_match, told.force))?;
    answer(&written, 200)
}

fn remove(Params(id): Params<Id>, if_match: IfMatch) -> Result<NoContent> {
    require_visible(&entity::read::<Allocation>(&Pool, &id)?.data)?;
    database::transaction(|transaction| write::delete(transaction, &id, if_match))?;
    Ok(NoContent)
}

/// 403 for what is planned for a project that does not exist for the caller.
fn require_visible(allocation: &Allocation) -> Result<()> {
    let is_seen = allocation.project_id.as_ref().is_none_or(|id| Visible::default().holds(id));
    if is_seen || rights::is_self(&allocation.user_id) {
        return Ok(());
    }
    Err(Problem::forbidden("It is planned for a project that is others'."))
}
