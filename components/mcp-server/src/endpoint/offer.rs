//! What the endpoint offers: the usual routes, and what an organization has chosen, under names of its choice.

use std::rc::Rc;

use berth_sdk::{http::Answer, prelude::*};

use super::catalogue::{self, Catalogue, Operation};
use crate::{access, audit, settings::Settings};

/// Offers of one organization.
const OFFERS_MAX: i64 = 500;

/// Nouns whose rows are listed, read, made and changed by the tools that are offered without anybody's choice.
const USUAL_NOUNS: [&str; 8] = [
    "/api/projects",
    "/api/tasks",
    "/api/plans",
    "/api/knowledge",
    "/api/incidents",
    "/api/releases",
    "/api/calendar/events",
    "/api/notifications",
];
/// Further routes that are offered without anybody's choice.
const USUAL: [(&str, &str); 14] = [
    ("POST", "/api/plans/{id}/validate"),
    ("POST", "/api/plans/{id}/approve"),
    ("POST", "/api/plans/{id}/execute"),
    ("GET", "/api/plans/{id}/steps"),
    ("GET", "/api/executions"),
    ("GET", "/api/executions/{id}"),
    ("GET", "/api/executions/{id}/artifacts"),
    ("GET", "/api/knowledge/search"),
    ("GET", "/api/messaging/conversations"),
    ("GET", "/api/messaging/conversations/{id}/messages"),
    ("POST", "/api/messaging/conversations/{id}/messages"),
    ("GET", "/api/workflows"),
    ("GET", "/api/users"),
    ("GET", "/api/teams"),
];
/// What the resources that are offered without anybody's choice are rows of.
const USUAL_RESOURCES: [&str; 6] =
    ["/api/projects", "/api/tasks", "/api/plans", "/api/knowledge", "/api/incidents", "/api/releases"];

/// What a route is offered as.
#[choice(upper)]
pub enum Kind {
    /// Something to do.
    Tool,
    /// Something to read.
    Resource,
    /// Something to say.
    Prompt,
}

/// A route that an organization has chosen.
#[entity(table = "mcp_offers", name = "offer", sort = "name")]
pub struct Offer {
    /// As what.
    #[field(immutable)]
    pub kind: Kind,
    /// Under which name. For a path that ends in `*` it names the choice only.
    #[field(min = 1, max = 128, filter)]
    pub name: String,
    /// For people.
    #[field(max = 200, plain)]
    pub title: Option<String>,
    /// What it is good for; the route's own line where nothing is said.
    #[field(max = 5_000)]
    pub description: Option<String>,
    /// The route's method; `*` for every one.
    #[field(min = 1, max = 10)]
    pub method: String,
    /// The route's path as the document writes it, or a beginning with a `*`.
    #[field(min = 2, max = 300)]
    pub path: String,
    /// Of a resource: its address, with `{name}` for what the path wants.
    #[field(max = 500)]
    pub uri: Option<String>,
    /// Of a resource: what it is.
    #[field(max = 100, plain)]
    pub mime_type: Option<String>,
    /// A person must agree to each call.
    #[field(default = false)]
    pub confirm: bool,
    /// Whether it is offered; a choice that is turned off hides what would be offered without it.
    #[field(default = true)]
    pub is_enabled: bool,
}

impl Rules for Offer {
    fn check(&self, faults: &mut Faults) {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        if !self.name.chars().all(is_plain) {
            faults.add("name", "must have letters, digits, `-`, `_` and `.` only");
        }
        if !matches!(self.method.as_str(), "GET" | "POST" | "PUT" | "DELETE" | "*") {
            faults.add("method", "must be GET, POST, PUT, DELETE or *");
        }
        let is_pattern = self.path.ends_with('*');
        if !self.path.starts_with("/api/") || self.path.contains(['?', '#', ' ']) {
            faults.add("path", "must begin with /api/");
        }
        match self.kind {
            Kind::Tool => {}
            _ if is_pattern || self.method == "*" => faults.add("path", "must be one route for this kind"),
            Kind::Resource if self.method != "GET" && self.method != "POST" => {
                faults.add("method", "must be GET for this kind")
            }
            Kind::Resource if self.uri.as_deref().is_none_or(|uri| !uri.contains("://")) => {
                faults.add("uri", "is required for this kind, as in notes://{id}");
            }
            _ => {}
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_manager(false)?;
        if Select::<Self>::new().count_in_turn(transaction)? >= OFFERS_MAX {
            return Err(Problem::conflict(format!("There are at most {OFFERS_MAX} offers.")));
        }
        let known = Select::<Self>::new().equal("kind", self.kind).equal("name", self.name.as_str());
        if known.count(transaction)? > 0 {
            return Err(Problem::conflict("There is an offer of this name already.").with_code("DUPLICATE_NAME"));
        }
        Ok(())
    }

    fn after_create(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        audit::note(transaction, "offer.created", None, &row.name, json!({"method": row.method, "path": row.path}))
    }

    fn before_update(&mut self, _: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(false)
    }

    fn after_update(_: &Stored<Self>, new: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        audit::note(transaction, "offer.updated", None, &new.name, json!({"isEnabled": new.is_enabled}))
    }

    fn before_delete(row: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require_manager(false)?;
        audit::note(transaction, "offer.deleted", None, &row.name, json!({}))
    }
}

/// A route under the name in which it is offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// As clients call it.
    pub name: String,
    /// For people.
    pub title: Option<String>,
    /// What it is good for.
    pub description: String,
    /// Of a resource: its address.
    pub uri: Option<String>,
    /// Of a resource: what it is.
    pub mime_type: Option<String>,
    /// A person must agree to each call.
    pub confirm: bool,
    /// The route.
    pub operation: Operation,
}

impl Offered {
    fn plain(operation: &Operation) -> Self {
        Self {
            name: operation.name.clone(),
            title: None,
            description: operation.summary.clone(),
            uri: None,
            mime_type: None,
            confirm: false,
            operation: operation.clone(),
        }
    }

    fn chosen(offer: &Offer, operation: &Operation) -> Self {
        let is_single = !offer.path.ends_with('*') && offer.method != "*";
        let words = offer.description.clone().filter(|words| !words.is_empty() && is_single);
        Self {
            name: if is_single { offer.name.clone() } else { operation.name.clone() },
            title: offer.title.clone().filter(|_| is_single),
            description: words.unwrap_or_else(|| operation.summary.clone()),
            uri: offer.uri.clone(),
            mime_type: offer.mime_type.clone(),
            confirm: offer.confirm,
            operation: operation.clone(),
        }
    }

    /// Whether the caller may call the route at all.
    pub fn is_allowed(&self) -> bool {
        self.operation.permission.as_deref().is_none_or(auth::has)
    }
}

fn fits(offer: &Offer, operation: &Operation) -> bool {
    let path = match offer.path.strip_suffix('*') {
        Some(stem) => operation.path.starts_with(stem) || operation.path == stem.trim_end_matches('/'),
        None => operation.path == offer.path,
    };
    path && (offer.method == "*" || offer.method == operation.method)
}

/// The choices of the organization.
pub fn chosen(kind: Kind) -> Result<Vec<Offer>> {
    let rows = Select::<Offer>::new().equal("kind", kind).limit(OFFERS_MAX).all(&Pool)?;
    Ok(rows.into_iter().map(|row| row.data).collect())
}

/// What is offered as a tool, the chosen names before the usual ones; whether the caller may call it is not judged here.
pub fn tools(catalogue: &Catalogue, settings: &Settings, offers: &[Offer]) -> Vec<Offered> {
    let mut offered: Vec<Offered> = Vec::new();
    for operation in &catalogue.operations {
        // A route by its own name counts before a beginning that fits it too.
        let mut fitting: Vec<&Offer> = offers.iter().filter(|offer| fits(offer, operation)).collect();
        fitting.sort_by_key(|offer| offer.path.ends_with('*'));
        let singles: Vec<&&Offer> =
            fitting.iter().filter(|offer| !offer.path.ends_with('*') && offer.method != "*").collect();
        if singles.is_empty() {
            match fitting.first() {
                Some(offer) if offer.is_enabled => offered.push(Offered::chosen(offer, operation)),
                Some(_) => {}
                None if settings.offers_defaults && is_usual(operation) => offered.push(Offered::plain(operation)),
                None => {}
            }
        } else {
            offered
                .extend(singles.iter().filter(|offer| offer.is_enabled).map(|offer| Offered::chosen(offer, operation)));
        }
    }
    offered.sort_by(|one, other| one.name.cmp(&other.name));
    offered.dedup_by(|one, other| one.name == other.name);
    offered
}

fn is_usual(operation: &Operation) -> bool {
    let row = |noun: &str| operation.path.strip_prefix(noun) == Some("/{id}");
    let is_noun = USUAL_NOUNS.iter().any(|noun| {
        (operation.path == *noun && matches!(operation.method.as_str(), "GET" | "POST"))
            || (row(noun) && matches!(operation.method.as_str(), "GET" | "PUT"))
    });
    is_noun || USUAL.iter().any(|(method, path)| operation.method == *method && operation.path == *path)
}

/// What is offered to be read.
pub fn resources(catalogue: &Catalogue, settings: &Settings, offers: &[Offer]) -> Vec<Offered> {
    let mut offered = of_offers(catalogue, offers);
    if settings.offers_defaults {
        for noun in USUAL_RESOURCES {
            for path in [noun.to_string(), format!("{noun}/{{id}}")] {
                let Some(operation) = catalogue.find("GET", &path) else { continue };
                let mut one = Offered::plain(operation);
                one.uri = Some(format!("berth:/{}", path.strip_prefix("/api").unwrap_or(&path)));
                one.mime_type = Some("application/json".into());
                offered.push(one);
            }
        }
    }
    offered
}

/// What is offered to be said.
pub fn prompts(catalogue: &Catalogue, offers: &[Offer]) -> Vec<Offered> {
    of_offers(catalogue, offers)
}

fn of_offers(catalogue: &Catalogue, offers: &[Offer]) -> Vec<Offered> {
    let enabled = offers.iter().filter(|offer| offer.is_enabled);
    enabled.filter_map(|offer| Some(Offered::chosen(offer, catalogue.find(&offer.method, &offer.path)?))).collect()
}

/// A route as it could be offered.
#[data]
pub struct Shown {
    /// Under which name it would be offered.
    name: String,
    /// Its method.
    method: String,
    /// Its path.
    path: String,
    /// Who answers it.
    plugin: String,
    /// One line.
    summary: String,
    /// What a caller must hold.
    permission: Option<String>,
}

/// `GET /api/mcp/routes`: what can be chosen. `?search`.
pub fn routes(query: PageQuery) -> Result<impl Answer> {
    let catalogue: Rc<Catalogue> = catalogue::load()?;
    let search = query.filter("search").unwrap_or_default().to_lowercase();
    let is_wanted = |operation: &&Operation| {
        search.is_empty()
            || [&operation.path, &operation.name, &operation.summary]
                .iter()
                .any(|text| text.to_lowercase().contains(&search))
    };
    let matching: Vec<&Operation> = catalogue.operations.iter().filter(is_wanted).collect();
    let (skip, take) = (usize::try_from(query.offset).unwrap_or(0), usize::try_from(query.limit).unwrap_or(0));
    let shown = |operation: &&Operation| Shown {
        name: operation.name.clone(),
        method: operation.method.clone(),
        path: operation.path.clone(),
        plugin: operation.plugin.clone(),
        summary: operation.summary.clone(),
        permission: operation.permission.clone(),
    };
    let total = i64::try_from(matching.len()).unwrap_or(i64::MAX);
    Ok(query.envelope(matching.iter().skip(skip).take(take).map(shown).collect(), total))
}

/// A text that changes whenever what is offered may have changed.
pub fn generation(kind: Kind) -> Result<String> {
    let organization_id = auth::organization_id()?;
    let sql =
        "SELECT COUNT(*) AS count, MAX(updated_at) AS last FROM mcp_offers WHERE organization_id = $1 AND kind = $2";
    let row = database::query_one(sql, params![&organization_id, kind])?;
    let mut text = match row {
        Some(row) => {
            let last: Option<Timestamp> = row.get("last")?;
            format!("{}-{}", row.get::<i64>("count")?, last.map_or(0, Timestamp::millis))
        }
        None => String::new(),
    };
    if kind == Kind::Tool {
        let sql = "SELECT COUNT(*) AS count, MAX(updated_at) AS last FROM mcp_tools WHERE organization_id = $1 AND is_enabled = $2";
        if let Some(row) = database::query_one(sql, params![&organization_id, true])? {
            let last: Option<Timestamp> = row.get("last")?;
            text.push_str(&format!("-{}-{}", row.get::<i64>("count")?, last.map_or(0, Timestamp::millis)));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use berth_sdk::serde_json::{self, Value};

    use super::*;

    fn operation(method: &str, path: &str) -> Operation {
        Operation {
            name: format!(
                "{}_{}",
                method.to_lowercase(),
                path.trim_start_matches("/api/").replace(['/', '{', '}'], "_")
            ),
            method: method.into(),
            path: path.into(),
            plugin: "planning".into(),
            summary: "Does it.".into(),
            permission: None,
            in_path: vec![],
            in_query: vec![],
            body: None,
            is_streaming: false,
            is_native: false,
        }
    }

    fn offer(fields: Value) -> Offer {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn choices_come_before_what_is_usual() {
        let operations =
            [("GET", "/api/plans"), ("POST", "/api/plans"), ("DELETE", "/api/plans/{id}"), ("GET", "/api/logs")];
        let catalogue =
            Catalogue { operations: operations.iter().map(|(method, path)| operation(method, path)).collect() };
        let names = |offers: &[Offer], usual: bool| {
            let settings = Settings { offers_defaults: usual, ..Settings::default() };
            tools(&catalogue, &settings, offers).into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[], true), ["get_plans", "post_plans"]);
        assert!(names(&[], false).is_empty());
        let hidden =
            offer(json!({"kind": "TOOL", "name": "x", "method": "POST", "path": "/api/plans", "isEnabled": false}));
        let renamed = offer(json!({"kind": "TOOL", "name": "plans", "method": "GET", "path": "/api/plans"}));
        assert_eq!(names(&[hidden.clone(), renamed], true), ["plans"]);
        let all = offer(json!({"kind": "TOOL", "name": "all", "method": "*", "path": "/api/plans*"}));
        assert_eq!(names(&[all, hidden], false), ["delete_plans__id_", "get_plans"]);
    }

    #[test]
    fn an_offer_that_makes_no_sense_is_refused() {
        let faults = |fields: Value| {
            let mut faults = Faults::default();
            offer(fields).check(&mut faults);
            faults.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>()
        };
        assert!(
            faults(json!({"kind": "RESOURCE", "name": "n", "method": "GET", "path": "/api/x/{id}", "uri": "n://{id}"}))
                .is_empty()
        );
        assert_eq!(faults(json!({"kind": "RESOURCE", "name": "n", "method": "GET", "path": "/api/x"})), ["uri"]);
        assert_eq!(
            faults(json!({"kind": "PROMPT", "name": "n m", "method": "*", "path": "/x*"})),
            ["name", "path", "path"]
        );
    }
}
