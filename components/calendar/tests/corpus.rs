//! Recurrence as others expand it. `corpus/generate.py` has made `expected.json` from `cases.json` with recurring-ical-events,
//! icalendar and dateutil, and `exported.json` from `exported.ics`, which Berth itself has written. No network is needed here.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, path::PathBuf};

use berth_sdk::{
    clock::Timestamp,
    data,
    entity::Stored,
    serde_json::{self, Value},
};
use calendar::{
    event::{Event, view::Viewer},
    ical::{Document, read},
    plan::propose::blank,
    recurrence::Span,
    zone,
};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

/// An occurrence that stands apart.
#[data]
struct Apart {
    at: String,
    start: String,
    end: String,
}

#[data]
struct Case {
    name: String,
    zone: String,
    start: String,
    end: String,
    #[field(default)]
    all_day: bool,
    rrule: Option<String>,
    #[field(default)]
    rdates: Vec<String>,
    #[field(default)]
    exdates: Vec<String>,
    #[field(default)]
    overrides: Vec<Apart>,
    from: String,
    to: String,
}

type Spans = BTreeMap<String, Vec<(Timestamp, Timestamp)>>;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn kept(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect(name)
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&kept("cases.json")).expect("cases")
}

fn naive(text: &str) -> NaiveDateTime {
    text.parse().unwrap_or_else(|_| text.parse::<NaiveDate>().expect("a time").and_time(NaiveTime::MIN))
}

impl Case {
    fn moment(&self, text: &str) -> Timestamp {
        zone::moment(zone::parse(&self.zone).expect("a zone"), naive(text))
    }

    fn moments(&self, texts: &[String]) -> Vec<Timestamp> {
        texts.iter().map(|text| self.moment(text)).collect()
    }

    /// The series, and what stands apart from it, as they would be stored.
    fn rows(&self) -> Vec<Stored<Event>> {
        let event = |start: &str, end: &str| Event {
            end_time: self.moment(end),
            timezone: self.zone.clone(),
            all_day: self.all_day,
            uid: self.name.clone(),
            organizer_id: "u1".into(),
            ..blank(self.name.clone(), self.moment(start))
        };
        let mut exdates = self.moments(&self.exdates);
        exdates.extend(self.overrides.iter().map(|apart| self.moment(&apart.at)));
        let series = Event {
            rrule: self.rrule.clone(),
            rdates: self.moments(&self.rdates),
            exdates,
            ..event(&self.start, &self.end)
        };
        let mut rows = vec![stored(&self.name, series)];
        for (index, apart) in self.overrides.iter().enumerate() {
            let row = Event {
                recurrence_parent_id: Some(self.name.as_str().into()),
                recurrence_id: Some(self.moment(&apart.at)),
                ..event(&apart.start, &apart.end)
            };
            rows.push(stored(&format!("{}-{index}", self.name), row));
        }
        rows
    }

    fn expand(&self) -> Vec<(Timestamp, Timestamp)> {
        let utc = |text: &str| Timestamp::from(naive(text).and_utc());
        let (from, to) = (utc(&self.from), utc(&self.to));
        let spans =
            self.rows().iter().flat_map(|row| row.series().between(from, to, 1_000).occurrences).collect::<Vec<_>>();
        let mut spans: Vec<(Timestamp, Timestamp)> = spans.iter().map(|Span { start, end }| (*start, *end)).collect();
        spans.sort_unstable();
        spans
    }
}

fn stored(id: &str, mut data: Event) -> Stored<Event> {
    data.settle();
    let at = Timestamp::parse("2026-01-01T00:00:00Z").expect("a time");
    Stored { id: id.into(), organization_id: None, created_by: None, created_at: at, updated_at: at, version: 1, data }
}

fn compare(expected: &Spans) {
    let mut wrong = Vec::new();
    for case in cases() {
        let (found, wanted) = (case.expand(), &expected[&case.name]);
        if found != *wanted {
            let text = |spans: &[(Timestamp, Timestamp)]| {
                spans.iter().map(|(start, end)| format!("{start}–{end}")).collect::<Vec<_>>().join(" ")
            };
            wrong.push(format!("{}\n  here:  {}\n  there: {}", case.name, text(&found), text(wanted)));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn series_are_expanded_as_others_expand_them() {
    let expected: Spans = serde_json::from_str(&kept("expected.json")).expect("expected");
    assert_eq!(expected.len(), cases().len());
    compare(&expected);
}

fn written() -> String {
    let rows: Vec<Stored<Event>> = cases().iter().flat_map(Case::rows).collect();
    let (attendees, viewer) = (BTreeMap::new(), Viewer::default());
    Document { name: Some("Corpus"), rows: &rows, attendees: &attendees, viewer: &viewer }.text()
}

#[test]
fn what_is_written_means_the_same_to_others() {
    let text = written();
    if std::env::var_os("BERTH_WRITE_CORPUS").is_some() {
        std::fs::write(folder().join("exported.ics"), &text).expect("a file");
        return;
    }
    assert_eq!(text, kept("exported.ics"), "write it anew and let corpus/generate.py read it");
    let expected: Spans = serde_json::from_str(&kept("exported.json")).expect("exported");
    compare(&expected);
}

/// A calendar that was written and read again is the same: the same rows, and so the same occurrences.
#[test]
fn what_is_written_can_be_read_again() {
    let contents = read::read(&written(), chrono_tz::Tz::UTC).expect("a calendar");
    assert!(contents.skipped.is_empty(), "{:?}", contents.skipped);
    let rows: Vec<Stored<Event>> = cases().iter().flat_map(Case::rows).collect();
    assert_eq!(contents.events.len(), rows.len());
    let text = |rule: &String| Value::from(rule.as_str());
    for row in &rows {
        let found =
            contents.events.iter().find(|event| event.uid == row.uid && event.recurrence_id == row.recurrence_id);
        let found = found.unwrap_or_else(|| panic!("{} is lost", row.id));
        assert_eq!((found.start, found.end, found.all_day), (row.start_time, row.end_time, row.all_day), "{}", row.id);
        assert_eq!(found.rrule.as_ref().map(text), row.rrule.as_ref().map(text), "{}", row.id);
        assert_eq!(found.title, row.title);
    }
}
