//! Reports: how the organization stood over a period. A report is never changed; another one is made.

mod findings;
mod period;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
};

use crate::check::Framework;
pub use period::Period;

/// Whether the organization kept to it.
#[choice]
pub enum ReportStatus {
    /// Every check in it has passed, and nothing has expired.
    Compliant,
    /// Something has failed or expired.
    NonCompliant,
    /// Something was not looked at, or holds only in part.
    Partial,
}

/// A report.
#[entity(table = "compliance_reports", name = "report", sort = "-createdAt")]
pub struct Report {
    /// Such as `soc2`, which looks at this framework alone, or `board`.
    #[field(filter, min = 1, max = 100, plain)]
    pub report_type: String,
    /// The framework that it looks at; none: all of them.
    pub framework: Option<Framework>,
    /// How long it is about.
    pub period: Period,
    /// From when.
    pub start_date: Timestamp,
    /// To when, without that moment.
    pub end_date: Timestamp,
    /// What was found.
    pub findings: Map<String, Value>,
    /// Whether the organization kept to it.
    pub status: ReportStatus,
    /// Who made it.
    #[field(filter)]
    pub generated_by: String,
}

impl Rules for Report {}

/// What a report shall be about.
#[data]
pub struct NewReport {
    /// Such as `soc2`, which looks at this framework alone, or `board`.
    #[field(min = 1, max = 100, plain)]
    report_type: String,
    /// The framework that it looks at; that of `reportType` where it names one, otherwise all of them.
    framework: Option<Framework>,
    /// How long it is about.
    period: Period,
    /// From when; the beginning of the last whole period when both are left out.
    start_date: Option<Timestamp>,
    /// To when; a period after `startDate` when it is left out.
    end_date: Option<Timestamp>,
}

/// The routes of reports.
pub fn routes() -> Router {
    const PATH: &str = "/api/compliance/reports";
    Router::new()
        .get(PATH, |query: PageQuery| Select::<Report>::new().page(&Pool, &query))
        .summary("List every report.")
        .post(PATH, generate)
        .summary("Generate a report.")
        .get(&format!("{PATH}/{{id}}"), |Params(id): Params<Id>| entity::read::<Report>(&Pool, &id))
        .summary("Read a report.")
}

/// `POST /api/compliance/reports`.
fn generate(Json(wanted): Json<NewReport>) -> Result<Created<Stored<Report>>> {
    let (start_date, end_date) = wanted.period.range(wanted.start_date, wanted.end_date, clock::now())?;
    let framework = wanted.framework.or_else(|| Framework::parse(&wanted.report_type.to_lowercase()));
    let generated_by = auth::principal().user_id.unwrap_or_else(|| "operator".into());
    crate::certification::expiry::settle();
    let row = database::transaction(|transaction| {
        let (findings, status) = findings::gather(transaction, framework, start_date, end_date)?;
        let report = Report {
            report_type: wanted.report_type,
            framework,
            period: wanted.period,
            start_date,
            end_date,
            findings,
            status,
            generated_by,
        };
        entity::create(transaction, report)
    })?;
    Ok(Created(row))
}
