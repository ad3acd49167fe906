//! Lists: which part of them is wanted, and the envelope they come in.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    choice, data,
    http::{FromRequest, Request, pairs},
    problem::{Problem, Result},
    router::Route,
    schema,
    validate::Faults,
};

/// The entries of a page when nothing is said.
pub const LIMIT_DEFAULT: i64 = 50;
/// The most entries of a page.
pub const LIMIT_MAX: i64 = 200;
/// The furthest a list can be read.
pub const OFFSET_MAX: i64 = 1_000_000;

/// One page of a list.
///
/// ```
/// use berth_sdk::{json, page::Page};
/// let page = Page { items: vec![1, 2], total: 9, limit: 2, offset: 4 };
/// assert_eq!(json!(page), json!({"items": [1, 2], "total": 9, "limit": 2, "offset": 4}));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: i64,
    /// The most entries of this page.
    pub limit: i64,
    /// How many entries come before it.
    pub offset: i64,
}

impl<T: Serialize + JsonSchema> crate::http::Answer for Page<T> {
    fn into_response(self) -> Result<crate::http::Response> {
        crate::http::Response::json(200, &self)
    }
    fn describe(route: &mut Route) {
        route.answer(200, Some(schema::of::<Self>), None);
    }
}

/// The part of a list that a request asks for: `limit`, `offset` or `page`, `sortBy`, `order`, and filters. A handler
/// takes it as an argument.
///
/// ```
/// use berth_sdk::{http::{FromRequest, Request}, page::PageQuery};
/// let mut request = Request::new("GET", "/api/plans?limit=20&page=3&order=desc&status=ready");
/// let query = PageQuery::from_request(&mut request).unwrap();
/// assert_eq!((query.limit, query.offset, query.descending), (20, 40, Some(true)));
/// assert_eq!(query.filter("status").as_deref(), Some("ready"));
/// let problem = PageQuery::from_request(&mut Request::new("GET", "/?limit=0&page=x")).unwrap_err();
/// assert_eq!(problem.errors.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// The most entries.
    pub limit: i64,
    /// How many come before.
    pub offset: i64,
    /// The field to sort by.
    pub sort_by: Option<String>,
    /// Largest first; none when not said.
    pub descending: Option<bool>,
    /// Every parameter, in its order.
    pub pairs: Vec<(String, String)>,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, offset: 0, sort_by: None, descending: None, pairs: Vec::new() }
    }
}

impl PageQuery {
    /// The value of a filter; an empty one counts as absent.
    pub fn filter(&self, name: &str) -> Option<String> {
        self.pairs.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    }

    /// Puts entries into their envelope.
    pub fn envelope<T>(&self, items: Vec<T>, total: i64) -> Page<T> {
        Page { items, total, limit: self.limit, offset: self.offset }
    }

    /// Puts the text of a JSON array into the envelope.
    pub fn envelope_text(&self, items: &[u8], total: i64) -> Vec<u8> {
        let mut text = Vec::with_capacity(items.len() + 64);
        text.extend_from_slice(b"{\"items\":");
        text.extend_from_slice(items);
        let rest = format!(",\"total\":{total},\"limit\":{},\"offset\":{}}}", self.limit, self.offset);
        text.extend_from_slice(rest.as_bytes());
        text
    }

    fn read(text: &str) -> Result<Self> {
        let mut query = Self { pairs: pairs(text).collect(), ..Self::default() };
        let mut faults = Faults::default();
        let mut number = |name: &str, min: i64, max: i64| {
            let value = query.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())?;
            match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Some(number),
                _ => {
                    faults.add(name, format!("must be a whole number from {min} to {max}"));
                    None
                }
            }
        };
        let limit = number("limit", 1, LIMIT_MAX).unwrap_or(LIMIT_DEFAULT);
        let offset = number("offset", 0, OFFSET_MAX);
        let page = number("page", 1, OFFSET_MAX / LIMIT_MAX);
        match query.filter("order").as_deref() {
            None => {}
            Some("asc") => query.descending = Some(false),
            Some("desc") => query.descending = Some(true),
            Some(_) => faults.add("order", "must be one of asc, desc"),
        }
        faults.finish()?;
        query.limit = limit;
        query.offset = offset.unwrap_or_else(|| page.map_or(0, |page| (page - 1) * limit));
        query.sort_by = query.filter("sortBy");
        Ok(query)
    }
}

impl FromRequest for PageQuery {
    fn from_request(request: &mut Request) -> Result<Self> {
        Self::read(request.query.as_deref().unwrap_or_default())
    }
    fn describe(route: &mut Route) {
        route.query_schemas.push(schema::of::<PageParameters>);
    }
}

/// What every list takes, for the API's document.
#[data]
struct PageParameters {
    /// The most entries of the page.
    #[field(min = 1, max = 200)]
    limit: Option<i64>,
    /// How many entries to leave out.
    #[field(min = 0, max = 1_000_000)]
    offset: Option<i64>,
    /// The page, from 1; `offset` wins over it.
    #[field(min = 1, max = 5_000)]
    page: Option<i64>,
    /// The field to sort by.
    sort_by: Option<String>,
    /// The direction.
    order: Option<Direction>,
}

/// Which end of a list comes first.
#[choice]
enum Direction {
    Asc,
    Desc,
}

/// 400 for a field that a list is not sorted by.
pub(crate) fn unknown_sort(allowed: &[&str]) -> Problem {
    Problem::field("sortBy", format!("must be one of {}", allowed.join(", ")))
}
