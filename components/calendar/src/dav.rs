//! CalDAV for programs that show calendars: discovery, collections, objects and reports, all of them to read (RFC 4791,
//! 4918, 6578). Who sees what is decided where it is for every other route.

pub mod collection;
pub mod place;
mod property;
pub mod report;
pub mod xml;

use berth_sdk::prelude::*;

use crate::event::range;
use collection::{Collection, Reader};
use place::{Place, ROOT};
use property::{Subject, tell};
use report::{Asked, Data};
use xml::{DAV, Multistatus};

/// What is spoken here.
const SPOKEN: &str = "1, calendar-access";
/// The media type of an object.
const OBJECT_TYPE: &str = "text/calendar; charset=utf-8; component=VEVENT";
/// The condition of an answer that would be too much.
const TOO_MUCH: (&str, &str) = (DAV, "number-of-matches-within-limits");

/// The routes. Whatever else is sent to them is answered by 405.
pub fn routes() -> Router {
    let home = format!("{ROOT}/calendars/{{userId}}");
    let collection = format!("{home}/{{calendarId}}");
    let object = format!("{collection}/{{object}}");
    let readable =
        [ROOT.to_string(), format!("{ROOT}/principals/{{userId}}"), home, collection.clone(), object.clone()];
    let mut router = Router::new();
    for path in &readable {
        router = router
            .route(&["OPTIONS"], path, options)
            .summary("Say what is spoken here.")
            .permission(crate::READ)
            .route(&["PROPFIND"], path, find)
            .summary("Read properties, also of what is in it.")
            .permission(crate::READ);
    }
    router
        .route(&["REPORT"], &collection, report)
        .summary("Find events of a calendar, by time or by name.")
        .permission(crate::READ)
        .get(&object, read)
        .summary("Read an event with what stands apart from it, as iCalendar.")
        .permission(crate::READ)
}

fn options(request: Request) -> Result<Response> {
    let allow = match place(&request, &Reader::caller()?)? {
        Place::Collection(..) => "OPTIONS, PROPFIND, REPORT",
        Place::Object(..) => "OPTIONS, GET, HEAD, PROPFIND",
        _ => "OPTIONS, PROPFIND",
    };
    Ok(spoken(Response::empty(200).with_header("allow", allow)))
}

fn find(request: Request) -> Result<Response> {
    bounded(properties(&request)).map(spoken)
}

fn report(request: Request) -> Result<Response> {
    let reader = Reader::caller()?;
    let Place::Collection(_, id) = place(&request, &reader)? else { return Err(Problem::missing("calendar")) };
    let answer = Collection::find(&reader, &id).and_then(|found| report::answer(&reader, &found, &request.body));
    bounded(answer).map(spoken)
}

fn read(request: Request) -> Result<Response> {
    let reader = Reader::caller()?;
    let Place::Object(_, id, name) = place(&request, &reader)? else { return Err(Problem::missing("event")) };
    let object = object(&reader, &Collection::find(&reader, &id)?, &name)?;
    let text = object.text(&reader, Data::Whole).unwrap_or_default();
    Ok(spoken(
        Response::text(200, OBJECT_TYPE, text)
            .with_header("etag", object.etag.as_str())
            .with_header("cache-control", "private, no-cache"),
    ))
}

fn properties(request: &Request) -> Result<Response> {
    let reader = Reader::caller()?;
    let place = place(request, &reader)?;
    let is_deep = match request.header("depth").map(str::trim) {
        Some("0") => false,
        Some("1") => true,
        None => return Ok(xml::refusal(403, (DAV, "propfind-finite-depth"))),
        Some(depth) if depth.eq_ignore_ascii_case("infinity") => {
            return Ok(xml::refusal(403, (DAV, "propfind-finite-depth")));
        }
        Some(_) => return Err(Problem::bad_request("`Depth` is 0 or 1.")),
    };
    let asked = Asked::of_propfind(&request.body)?;
    let mut answer = Multistatus::default();
    let mut add = |subject: Subject<'_>| tell(&mut answer, &reader, subject, &asked);
    match place {
        Place::Root => {
            add(Subject::Root)?;
            if is_deep {
                add(Subject::Principal)?;
                add(Subject::Home)?;
            }
        }
        Place::Principal(_) => add(Subject::Principal)?,
        Place::Home(_) => {
            add(Subject::Home)?;
            if is_deep {
                for collection in &Collection::all(&reader)? {
                    add(Subject::Collection(collection))?;
                }
            }
        }
        Place::Collection(_, id) => {
            let collection = Collection::find(&reader, &id)?;
            add(Subject::Collection(&collection))?;
            if is_deep {
                for object in &collection.objects(&reader)? {
                    add(Subject::Object(&collection, object))?;
                }
            }
        }
        Place::Object(_, id, name) => {
            let collection = Collection::find(&reader, &id)?;
            add(Subject::Object(&collection, &object(&reader, &collection, &name)?))?;
        }
    }
    Ok(answer.response())
}

/// What the path names; 404 for what is somebody else's.
fn place(request: &Request, reader: &Reader) -> Result<Place> {
    let place = Place::parse(&request.path);
    let own = place.filter(|place| place.user().is_none_or(|user| user == reader.user_id.as_str()));
    own.ok_or_else(|| Problem::missing("calendar"))
}

fn object(reader: &Reader, collection: &Collection, name: &str) -> Result<collection::Object> {
    let found = collection.objects_named(reader, &[name])?;
    found.into_iter().next().ok_or_else(|| Problem::missing("event"))
}

/// More than one answer holds.
fn too_much() -> Problem {
    Problem::unprocessable("It is more than one answer holds; ask for less.").with_code(range::TOO_LARGE)
}

/// Says that it was too much as clients of WebDAV know it.
fn bounded(answer: Result<Response>) -> Result<Response> {
    match answer {
        Err(problem) if problem.code == range::TOO_LARGE => Ok(xml::refusal(507, TOO_MUCH)),
        answer => answer,
    }
}

fn spoken(response: Response) -> Response {
    response.with_header("dav", SPOKEN)
}

#[cfg(test)]
mod tests {
    use berth_sdk::prelude::*;

    use crate::service;

    fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        berth_sdk::testing::sign_in("u1", "o1");
        let request = Request { body: body.into(), ..Request::new(method, &format!("/api/calendar/dav{path}")) };
        service().handle(headers.iter().fold(request, |request, (name, value)| request.with_header(name, value)))
    }

    fn text(response: &Response) -> String {
        String::from_utf8_lossy(response.whole_body().unwrap_or_default()).into_owned()
    }

    #[test]
    fn a_client_finds_its_way() {
        let root = "<propfind xmlns=\"DAV:\"><prop><current-user-principal/></prop></propfind>";
        let answer = ask("PROPFIND", "/", &[("depth", "0")], root);
        assert_eq!(answer.status, 207);
        assert!(answer.headers.contains(&("dav".into(), "1, calendar-access".into())));
        assert!(text(&answer).contains("<D:href>/api/calendar/dav/principals/u1/</D:href>"), "{}", text(&answer));
        assert!(text(&ask("PROPFIND", "", &[("depth", "1")], "")).contains("/api/calendar/dav/calendars/u1/"));
        let answer = ask("OPTIONS", "/calendars/u1/own/", &[], "");
        assert!(answer.headers.contains(&("allow".into(), "OPTIONS, PROPFIND, REPORT".into())));
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_name() {
        for headers in [&[][..], &[("depth", "infinity")], &[("depth", "Infinity")]] {
            let answer = ask("PROPFIND", "/calendars/u1/", headers, "");
            assert_eq!(answer.status, 403);
            assert!(text(&answer).contains("<D:propfind-finite-depth/>"), "{}", text(&answer));
        }
        assert_eq!(ask("PROPFIND", "/calendars/u1/", &[("depth", "2")], "").status, 400);
        assert_eq!(ask("PROPFIND", "/calendars/u2/", &[("depth", "0")], "").status, 404, "somebody else's");
        assert_eq!(ask("PROPFIND", "/principals/u1", &[("depth", "0")], "<!DOCTYPE x><x/>").status, 400);
        assert_eq!(
            ask("PROPFIND", "/calendars/u1", &[("depth", "1")], "").status,
            503,
            "natively there is no database"
        );
        for method in ["PUT", "DELETE", "MKCALENDAR", "PROPPATCH"] {
            let answer = ask(method, "/calendars/u1/own/e1.ics", &[], "");
            assert_eq!(answer.status, 405, "{method}");
            assert!(
                answer.headers.contains(&("allow".into(), "OPTIONS, PROPFIND, GET".into())),
                "{:?}",
                answer.headers
            );
        }
    }
}
