//! What a body asks for, and the reports on a collection: a query by time, objects by name, and whether anything has
//! changed.

use berth_sdk::prelude::*;
use chrono::{Datelike, NaiveDateTime};
use roxmltree::Node;

use super::{
    collection::{Collection, Reader},
    place::Place,
    property::{Subject, TOKEN, tell},
    too_much,
    xml::{self, CALDAV, DAV, Multistatus, Name, child, elements},
};
use crate::{ical, recurrence::Span};

/// The reports that there are.
pub const KINDS: [(&str, &str); 4] =
    [(CALDAV, "calendar-query"), (CALDAV, "calendar-multiget"), (CALDAV, "free-busy-query"), (DAV, "sync-collection")];
/// Properties that one request names.
const NAMES_MAX: usize = 200;
/// Objects that one request names.
const OBJECTS_MAX: usize = 1_000;
/// The longest range whose occurrences are told one by one, in days.
const EXPANDED_DAYS_MAX: i64 = 366;
/// The years that a range reaches into; nothing is planned beyond.
const YEAR_MIN: i32 = 1900;
const YEAR_MAX: i32 = 2300;

/// Which properties are wanted.
pub enum Wanted {
    /// Those of WebDAV.
    All,
    /// Their names alone.
    Names,
    /// These.
    These(Vec<Name>),
}

/// How much of an object itself is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is no property.
    Nothing,
    /// All of it.
    Whole,
    /// Its occurrences within a range.
    Expanded(Timestamp, Timestamp),
}

/// What is asked of every resource.
pub struct Asked {
    /// Its properties.
    pub wanted: Wanted,
    /// And of an object the object itself, where `calendar-data` is among them.
    pub data: Data,
}

impl Asked {
    /// Reads the body of `PROPFIND`; none means all.
    pub fn of_propfind(body: &[u8]) -> Result<Self> {
        let text = xml::body(body)?;
        if text.trim().is_empty() {
            return Ok(Self { wanted: Wanted::All, data: Data::Nothing });
        }
        let document = xml::parse(text)?;
        let root = document.root_element();
        if !root.has_tag_name((DAV, "propfind")) {
            return Err(Problem::bad_request("A PROPFIND needs a propfind.").with_code("INVALID_XML"));
        }
        let asked = Self::read(root)?;
        Ok(Self { data: Data::Nothing, ..asked })
    }

    /// Reads what a report says of properties.
    fn read(root: Node<'_, '_>) -> Result<Self> {
        let data = Data::Whole;
        if child(root, (DAV, "allprop")).is_some() {
            return Ok(Self { wanted: Wanted::All, data });
        }
        if child(root, (DAV, "propname")).is_some() {
            return Ok(Self { wanted: Wanted::Names, data });
        }
        let Some(prop) = child(root, (DAV, "prop")) else {
            return Ok(Self { wanted: Wanted::These(Vec::new()), data });
        };
        let mut names: Vec<Name> = Vec::new();
        for name in elements(prop).map(Name::of) {
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() > NAMES_MAX {
                return Err(Problem::bad_request(format!("A request names at most {NAMES_MAX} properties.")));
            }
        }
        let expand = child(prop, (CALDAV, "calendar-data")).and_then(|data| child(data, (CALDAV, "expand")));
        let data = match expand {
            None => Data::Whole,
            Some(expand) => match range(expand) {
                Some(range) => Data::Expanded(range.start, range.end),
                None => {
                    let why = format!(
                        "`expand` needs a start and an end, in UTC and at most {EXPANDED_DAYS_MAX} days apart."
                    );
                    return Err(Problem::bad_request(why));
                }
            },
        };
        Ok(Self { wanted: Wanted::These(names), data })
    }
}

/// Answers a report on a collection.
pub fn answer(reader: &Reader, collection: &Collection, body: &[u8]) -> Result<Response> {
    let text = xml::body(body)?;
    let document = xml::parse(text)?;
    let root = document.root_element();
    match Name::of(root).pair() {
        (CALDAV, "calendar-query") => query(reader, collection, root),
        (CALDAV, "calendar-multiget") => multiget(reader, collection, root),
        (CALDAV, "free-busy-query") => busy(reader, collection, root),
        (DAV, "sync-collection") => changes(reader, collection, root),
        _ => Ok(xml::refusal(403, (DAV, "supported-report"))),
    }
}

/// Which objects a query is for.
#[derive(Debug, PartialEq, Eq)]
enum Matching {
    Nothing,
    Everything,
    Within(Option<Timestamp>, Option<Timestamp>),
    /// It says something that is not understood here, and must not be answered as if it said less.
    Strange,
    Invalid,
}

fn query(reader: &Reader, collection: &Collection, root: Node<'_, '_>) -> Result<Response> {
    let asked = Asked::read(root)?;
    let objects = match child(root, (CALDAV, "filter")).map_or(Matching::Invalid, matching) {
        Matching::Nothing => Vec::new(),
        Matching::Everything => collection.objects(reader)?,
        Matching::Within(from, to) => collection.objects_within(reader, from, to)?,
        Matching::Strange => return Ok(xml::refusal(403, (CALDAV, "supported-filter"))),
        Matching::Invalid => return Ok(xml::refusal(403, (CALDAV, "valid-filter"))),
    };
    let mut answer = Multistatus::default();
    for object in &objects {
        tell(&mut answer, reader, Subject::Object(collection, object), &asked)?;
    }
    Ok(answer.response())
}

/// Reads a filter: one on `VCALENDAR`, in it one on `VEVENT`, in it a range of time.
fn matching(filter: Node<'_, '_>) -> Matching {
    let mut outer = elements(filter);
    let (Some(calendar), None) = (outer.next(), outer.next()) else { return Matching::Invalid };
    if !is_of(calendar, "VCALENDAR") {
        return Matching::Invalid;
    }
    let mut matching = Matching::Everything;
    for inner in elements(calendar) {
        if !inner.has_tag_name((CALDAV, "comp-filter")) {
            return Matching::Strange;
        }
        if !is_of(inner, "VEVENT") {
            // Nothing else is ever in here: tasks and journals are not found, and that there are none is not asked.
            matching = if child(inner, (CALDAV, "is-not-defined")).is_some() { matching } else { Matching::Nothing };
            continue;
        }
        for condition in elements(inner) {
            let found = match Name::of(condition).pair() {
                (CALDAV, "time-range") => match span(condition) {
                    Some((from, to)) if from.is_some() || to.is_some() => Matching::Within(from, to),
                    _ => return Matching::Invalid,
                },
                (CALDAV, "is-not-defined") => Matching::Nothing,
                _ => return Matching::Strange,
            };
            matching = match matching {
                Matching::Everything => found,
                Matching::Nothing => Matching::Nothing,
                _ => return Matching::Strange,
            };
        }
    }
    matching
}

fn is_of(filter: Node<'_, '_>, component: &str) -> bool {
    filter.has_tag_name((CALDAV, "comp-filter"))
        && filter.attribute("name").is_some_and(|name| name.eq_ignore_ascii_case(component))
}

/// The `start` and `end` of an element; none when one is no moment in UTC, or they are the wrong way round.
fn span(node: Node<'_, '_>) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
    let read = |name: &str| match node.attribute(name) {
        None => Some(None),
        Some(text) => moment(text).map(Some),
    };
    let (from, to) = (read("start")?, read("end")?);
    let is_round = matches!((from, to), (Some(from), Some(to)) if to <= from);
    (!is_round).then_some((from, to))
}

/// The range of an element that has both, and whose occurrences may be told one by one.
fn range(node: Node<'_, '_>) -> Option<Span> {
    let (Some(start), Some(end)) = span(node)? else { return None };
    ((end.date_time() - start.date_time()).num_days() <= EXPANDED_DAYS_MAX).then_some(Span { start, end })
}

/// A moment as `20260302T090000Z`, brought into the years that are known here.
fn moment(text: &str) -> Option<Timestamp> {
    let read = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok()?;
    let year = read.year().clamp(YEAR_MIN, YEAR_MAX);
    let within = if year == read.year() { read } else { read.with_day(1)?.with_month(1)?.with_year(year)? };
    Some(within.and_utc().into())
}

fn busy(reader: &Reader, collection: &Collection, root: Node<'_, '_>) -> Result<Response> {
    let Some(range) = child(root, (CALDAV, "time-range")).and_then(range) else {
        return Ok(xml::refusal(403, (CALDAV, "valid-filter")));
    };
    let spans = collection.busy(reader, range)?;
    Ok(Response::text(200, ical::MEDIA_TYPE, ical::busy(range, &spans)))
}

fn multiget(reader: &Reader, collection: &Collection, root: Node<'_, '_>) -> Result<Response> {
    let asked = Asked::read(root)?;
    let hrefs: Vec<&str> = elements(root)
        .filter(|node| node.has_tag_name((DAV, "href")))
        .map(|node| node.text().unwrap_or_default().trim())
        .take(OBJECTS_MAX + 1)
        .collect();
    if hrefs.len() > OBJECTS_MAX {
        return Err(too_much());
    }
    let named: Vec<(&str, Option<String>)> = hrefs
        .into_iter()
        .map(|href| match Place::of_href(href) {
            Some(Place::Object(user, inside, name)) if user == reader.user_id.as_str() && inside == collection.id => {
                (href, Some(name))
            }
            _ => (href, None),
        })
        .collect();
    let mut names: Vec<&str> = named.iter().filter_map(|(_, name)| name.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let objects = collection.objects_named(reader, &names)?;
    let mut answer = Multistatus::default();
    for (href, name) in &named {
        match objects.iter().find(|object| name.as_deref() == Some(object.name.as_str())) {
            Some(object) => tell(&mut answer, reader, Subject::Object(collection, object), &asked)?,
            None => answer.add_missing(href),
        }
    }
    Ok(answer.response())
}

/// Everything to who comes for the first time, nothing to who knows the present state, and to everybody else that they have
/// to come anew: what became of each event is not kept.
fn changes(reader: &Reader, collection: &Collection, root: Node<'_, '_>) -> Result<Response> {
    let asked = Asked::read(root)?;
    let known = child(root, (DAV, "sync-token")).and_then(|node| node.text()).unwrap_or_default().trim().to_string();
    // Before the events are read: what changes meanwhile is told once more rather than never.
    let token = format!("{TOKEN}{}", collection.state(reader)?);
    let mut answer = Multistatus::default();
    if known.is_empty() {
        let objects = collection.objects(reader)?;
        let limit = child(root, (DAV, "limit")).and_then(|limit| child(limit, (DAV, "nresults")));
        let most = limit.and_then(|node| node.text()).and_then(|text| text.trim().parse::<usize>().ok());
        if most.is_some_and(|most| objects.len() > most) {
            return Err(too_much());
        }
        for object in &objects {
            tell(&mut answer, reader, Subject::Object(collection, object), &asked)?;
        }
    } else if known != token {
        return Ok(xml::refusal(403, (DAV, "valid-sync-token")));
    }
    answer.add_token(&token);
    Ok(answer.response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(inner: &str) -> Matching {
        let text = format!("<f xmlns=\"{CALDAV}\">{inner}</f>");
        let document = xml::parse(&text).unwrap();
        matching(document.root_element())
    }

    fn at(text: &str) -> Option<Timestamp> {
        Timestamp::parse(text)
    }

    #[test]
    fn a_filter_is_understood_whole_or_not_at_all() {
        let event = |inner: &str| {
            filter(&format!(
                "<comp-filter name=\"VCALENDAR\"><comp-filter name=\"VEVENT\">{inner}</comp-filter></comp-filter>"
            ))
        };
        assert_eq!(filter("<comp-filter name=\"VCALENDAR\"/>"), Matching::Everything);
        assert_eq!(event(""), Matching::Everything);
        let (from, to) = (at("2026-03-02T09:00:00Z"), at("2026-04-01T00:00:00Z"));
        let range = "<time-range start=\"20260302T090000Z\" end=\"20260401T000000Z\"/>";
        assert_eq!(event(range), Matching::Within(from, to));
        assert_eq!(event("<time-range start=\"20260302T090000Z\"/>"), Matching::Within(from, None));
        assert_eq!(event("<time-range end=\"99991231T235959Z\"/>"), Matching::Within(None, at("2300-01-01T23:59:59Z")));
        for strange in [
            "<prop-filter name=\"UID\"><text-match>x</text-match></prop-filter>".to_owned(),
            "<comp-filter name=\"VALARM\"/>".to_owned(),
            format!("{range}{range}"),
            format!("{range}<prop-filter name=\"UID\"/>"),
        ] {
            assert_eq!(event(&strange), Matching::Strange, "{strange}");
        }
        for invalid in [
            "<time-range/>",
            "<time-range start=\"2026-03-02\"/>",
            "<time-range start=\"20260302T090000\"/>",
            "<time-range start=\"20260401T000000Z\" end=\"20260302T090000Z\"/>",
        ] {
            assert_eq!(event(invalid), Matching::Invalid, "{invalid}");
        }
        assert_eq!(filter(""), Matching::Invalid);
        assert_eq!(filter("<comp-filter name=\"VEVENT\"/>"), Matching::Invalid);
        let tasks = "<comp-filter name=\"VCALENDAR\"><comp-filter name=\"VTODO\"/></comp-filter>";
        assert_eq!(filter(tasks), Matching::Nothing);
    }

    #[test]
    fn properties_and_occurrences_are_asked_for_by_name() {
        let read = |inner: &str| {
            let text = format!("<D:r xmlns:D=\"DAV:\" xmlns:C=\"{CALDAV}\"><D:prop>{inner}</D:prop></D:r>");
            Asked::read(xml::parse(&text).unwrap().root_element())
        };
        let expand = |from: &str, to: &str| {
            read(&format!("<C:calendar-data><C:expand start=\"{from}\" end=\"{to}\"/></C:calendar-data>"))
        };
        let asked = read("<D:getetag/><D:getetag/><C:calendar-data/>").unwrap();
        assert!(matches!(asked.wanted, Wanted::These(names) if names.len() == 2) && asked.data == Data::Whole);
        let asked = expand("20260101T000000Z", "20260201T000000Z").unwrap();
        let (from, to) = (at("2026-01-01T00:00:00Z").unwrap(), at("2026-02-01T00:00:00Z").unwrap());
        assert_eq!(asked.data, Data::Expanded(from, to));
        for (from, to) in [("20260101T000000Z", "20270201T000000Z"), ("20260201T000000Z", "20260101T000000Z"), ("", "")]
        {
            assert_eq!(expand(from, to).err().map(|problem| problem.status), Some(400), "{from} {to}");
        }
        let many: String = (0..=NAMES_MAX).map(|at| format!("<D:p{at}/>")).collect();
        assert_eq!(read(&many).err().map(|problem| problem.status), Some(400));
        assert!(matches!(Asked::of_propfind(b" ").unwrap().wanted, Wanted::All));
        assert_eq!(Asked::of_propfind(b"<propfind/>").err().map(|problem| problem.status), Some(400));
    }
}
