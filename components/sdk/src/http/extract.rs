//! What a handler takes.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{Request, query};
use crate::{
    id::Id,
    problem::{Problem, Result},
    router::Route,
    schema,
    validate::{Faults, Path, Rule, Tidy, json_schema_faults},
};

/// A part of the request that a handler takes as an argument.
///
/// ```
/// use berth_sdk::{Problem, http::{FromRequest, Request}};
/// struct Language(String);
/// impl FromRequest for Language {
///     fn from_request(request: &mut Request) -> Result<Self, Problem> {
///         Ok(Self(request.header("accept-language").unwrap_or("en").into()))
///     }
/// }
/// assert_eq!(Language::from_request(&mut Request::new("GET", "/")).unwrap().0, "en");
/// ```
pub trait FromRequest: Sized {
    /// Takes it; a problem ends the request.
    fn from_request(request: &mut Request) -> Result<Self>;
    /// Says in the route's description what it takes.
    fn describe(route: &mut Route) {
        let _ = route;
    }
}

/// The whole request.
impl FromRequest for Request {
    fn from_request(request: &mut Request) -> Result<Self> {
        let request_id = request.request_id.clone();
        // A problem that comes later is still answered with the id.
        Ok(std::mem::replace(request, Request { request_id, ..Request::default() }))
    }
}

/// A JSON body or answer. A body is an object; unknown members are ignored; every fault is listed with its path.
///
/// ```
/// use berth_sdk::{data, json, http::{FromRequest, Json, Request}};
/// #[data]
/// struct NewNote {
///     #[field(min = 1, max = 200, plain)]
///     title: String,
///     stars: Option<i64>,
/// }
/// let mut request = Request::new("POST", "/api/notes").with_json(&json!({"title": 7, "stars": "many"}));
/// let problem = Json::<NewNote>::from_request(&mut request).unwrap_err();
/// assert_eq!(problem.errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["title", "stars"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Tidy> FromRequest for Json<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        check_media_type(request)?;
        body::<T>(&request.body).map(Self)
    }

    fn describe(route: &mut Route) {
        route.request_schemas.push(schema::of::<T>);
    }
}

/// A JSON body that may be left out.
impl<T: DeserializeOwned + JsonSchema + Tidy> FromRequest for Option<Json<T>> {
    fn from_request(request: &mut Request) -> Result<Self> {
        if request.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        Json::from_request(request).map(Some)
    }

    fn describe(route: &mut Route) {
        route.request_schemas.push(optional_schema::<T>);
    }
}

/// The schema of a body that may be left out, with the word that tells the host so.
fn optional_schema<T: JsonSchema>() -> serde_json::Value {
    let mut whole = schema::of::<T>();
    if let Some(words) = whole.as_object_mut() {
        words.insert(OPTIONAL_WORD.into(), true.into());
    }
    whole
}

/// Of the schema of a body: it may be left out. The host takes it out of the document.
const OPTIONAL_WORD: &str = "x-berth-optional";

/// The query, read into a type of optional members; `a,b` reads into a list.
///
/// ```
/// use berth_sdk::{data, http::{FromRequest, Query, Request}};
/// #[data]
/// struct Which { project_id: Option<String> }
/// let Query(which) = Query::<Which>::from_request(&mut Request::new("GET", "/?projectId=p1")).unwrap();
/// assert_eq!(which.project_id.as_deref(), Some("p1"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + JsonSchema + Tidy> FromRequest for Query<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        let mut value: T = query::read(request.query.as_deref().unwrap_or_default())?;
        let mut faults = Faults::default();
        value.tidy(&Rule::default(), &Path::default(), &mut faults);
        faults.finish()?;
        Ok(Self(value))
    }

    fn describe(route: &mut Route) {
        route.query_schemas.push(schema::of::<T>);
    }
}

/// The values of `{name}` in the route's path: one [`Id`], or a tuple of them in their order.
///
/// ```
/// use berth_sdk::{Id, http::Params, router::Router};
/// fn read(Params((plan, step)): Params<(Id, Id)>) -> String { format!("{plan}/{step}") }
/// let router = Router::new().get("/api/plans/{id}/steps/{stepId}", read);
/// # let _ = router;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params<T>(pub T);

impl<T: FromParams> FromRequest for Params<T> {
    fn from_request(request: &mut Request) -> Result<Self> {
        T::from_params(&request.params).map(Self)
    }
}

/// What [`Params`] reads.
pub trait FromParams: Sized {
    /// Reads the values in their order.
    fn from_params(values: &[String]) -> Result<Self>;
}

fn id_at(values: &[String], index: usize) -> Result<Id> {
    Id::parse(values.get(index).map(String::as_str).unwrap_or_default())
}

impl FromParams for Id {
    fn from_params(values: &[String]) -> Result<Self> {
        id_at(values, 0)
    }
}

impl FromParams for (Id, Id) {
    fn from_params(values: &[String]) -> Result<Self> {
        Ok((id_at(values, 0)?, id_at(values, 1)?))
    }
}

impl FromParams for (Id, Id, Id) {
    fn from_params(values: &[String]) -> Result<Self> {
        Ok((id_at(values, 0)?, id_at(values, 1)?, id_at(values, 2)?))
    }
}

/// A text of any form.
impl FromParams for String {
    fn from_params(values: &[String]) -> Result<Self> {
        Ok(values.first().cloned().unwrap_or_default())
    }
}

/// The version that `If-Match` names; none when the header is absent or `*`.
///
/// ```
/// use berth_sdk::http::{FromRequest, IfMatch, Request};
/// let mut request = Request::new("PUT", "/api/plans/p1").with_header("if-match", "\"3\"");
/// assert_eq!(IfMatch::from_request(&mut request).unwrap().0, Some(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfMatch(pub Option<i64>);

impl FromRequest for IfMatch {
    fn from_request(request: &mut Request) -> Result<Self> {
        let Some(value) = request.header("if-match").map(str::trim) else { return Ok(Self(None)) };
        if value == "*" {
            return Ok(Self(None));
        }
        let version =
            value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|text| text.parse().ok());
        match version {
            Some(version) => Ok(Self(Some(version))),
            None => Err(Problem::precondition_failed("`If-Match` names no version of it; send its `ETag`.")),
        }
    }
}

impl IfMatch {
    /// 412 when it names another version than this one.
    pub fn check(self, version: i64) -> Result<()> {
        match self.0 {
            Some(wanted) if wanted != version => {
                Err(Problem::precondition_failed(format!("Its version is {version} by now.")))
            }
            _ => Ok(()),
        }
    }
}

/// 415 when the request says that its body is something else than JSON.
pub(crate) fn check_media_type(request: &Request) -> Result<()> {
    let Some(media_type) = request.header("content-type") else { return Ok(()) };
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::unsupported_media_type("The body must be application/json.").with_header("accept", "application/json"))
}

/// Reads a body that must be a JSON object. The fast way straight into the type; only when that fails the slow way,
/// which finds every fault.
pub(crate) fn body<T: DeserializeOwned + JsonSchema + Tidy>(bytes: &[u8]) -> Result<T> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
            Ok(_) => Problem::bad_request("The body must be a JSON object."),
            Err(error) => not_json(&error),
        });
    }
    if has_null_character(bytes) {
        return Err(Problem::bad_request("The body must not contain the character U+0000."));
    }
    match serde_json::from_slice::<T>(bytes) {
        Ok(value) => tidied(value),
        Err(_) => read_value(serde_json::from_slice(bytes).map_err(|error| not_json(&error))?),
    }
}

/// Reads a body that must be a JSON object as that.
pub(crate) fn read_object(bytes: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>> {
    body::<Object>(bytes).map(|object| object.0)
}

/// An object of any members.
#[derive(serde::Deserialize, JsonSchema)]
struct Object(serde_json::Map<String, serde_json::Value>);

impl Tidy for Object {}

/// Reads a JSON value into a type, tidied as a body is; 400 with every fault otherwise.
///
/// ```
/// use berth_sdk::{data, http, json};
/// #[data]
/// struct Range { #[field(min = 1)] first: i64 }
/// assert_eq!(http::read_value::<Range>(json!({"first": 3})).unwrap().first, 3);
/// assert_eq!(http::read_value::<Range>(json!({"first": 0})).unwrap_err().errors[0].field, "first");
/// ```
pub fn read_value<T: DeserializeOwned + JsonSchema + Tidy>(value: serde_json::Value) -> Result<T> {
    let read = T::deserialize(&value).or_else(|error| {
        let mut whole = value.clone();
        write_whole_numbers(&mut whole);
        T::deserialize(&whole).map_err(|_| misfit::<T>(&value, &error))
    })?;
    tidied(read)
}

/// Writes `4.0` as `4`. To JSON Schema they are one number, and to serde only the second is an integer; so this is for a value that
/// did not fit as it came.
fn write_whole_numbers(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => {
            // Below 2^53 every whole number has a float of its own.
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0);
            if let Some(float) = whole
                && number.is_f64()
            {
                *number = (float as i64).into();
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(write_whole_numbers),
        serde_json::Value::Object(members) => members.values_mut().for_each(write_whole_numbers),
        _ => {}
    }
}

/// Whether a text of JSON holds U+0000, which can only be written as an escape. PostgreSQL can store it nowhere.
fn has_null_character(bytes: &[u8]) -> bool {
    const ESCAPE: &[u8] = b"\\u0000";
    bytes.windows(ESCAPE.len()).enumerate().filter(|(_, window)| *window == ESCAPE).any(|(at, _)| {
        let before = bytes.get(..at).unwrap_or_default();
        // An even number of backslashes before it: then this one begins an escape.
        before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
    })
}

fn tidied<T: Tidy>(mut value: T) -> Result<T> {
    let mut faults = Faults::default();
    value.tidy(&Rule::default(), &Path::default(), &mut faults);
    faults.finish()?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Problem {
    if error.is_eof() && error.line() <= 1 && error.column() == 0 {
        return Problem::bad_request("A JSON body is needed.");
    }
    Problem::bad_request(format!("The body is not JSON: a fault at line {}, column {}.", error.line(), error.column()))
}

fn misfit<T: JsonSchema>(value: &serde_json::Value, error: &serde_json::Error) -> Problem {
    let faults = json_schema_faults(&schema::of::<T>(), value);
    if faults.is_empty() {
        Problem::bad_request(format!("The body does not fit: {error}."))
    } else {
        Problem::validation(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::{has_null_character, read_value};
    use crate::{data, json};

    #[data]
    struct Crate {
        #[field(min = 1, max = 9)]
        count: i64,
        #[field(max = 5)]
        label: Option<String>,
        weight: Option<f64>,
        contents: Option<serde_json::Value>,
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        let read = read_value::<Crate>(json!({"count": 4.0, "weight": 2.0, "contents": {"depth": 1.5}})).unwrap();
        assert_eq!((read.count, read.weight), (4, Some(2.0)));
        assert_eq!(read.contents, Some(json!({"depth": 1.5})));
        for bad in [json!({"count": 4.5}), json!({"count": 10.0}), json!({"count": 1e300}), json!({"count": "4"})] {
            assert_eq!(read_value::<Crate>(bad.clone()).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn a_text_is_as_long_as_it_was_sent() {
        let labelled = |label: &str| read_value::<Crate>(json!({"count": 1, "label": label}));
        assert_eq!(labelled(" rum ").unwrap().label.as_deref(), Some("rum"));
        assert_eq!(labelled("rum\u{1}\u{2}\u{3}").unwrap_err().errors[0].field, "label");
    }

    #[test]
    fn a_null_character_is_told_from_the_text_that_names_it() {
        assert!(has_null_character(b"{\"a\":\"x\\u0000\"}"));
        assert!(!has_null_character(b"{\"a\":\"x\\\\u0000\"}"));
        assert!(has_null_character(b"{\"a\":\"x\\\\\\u0000\"}"));
        assert!(!has_null_character(b"{}"));
    }
}
