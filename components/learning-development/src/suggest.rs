//! What happens elsewhere suggests resources: what went wrong, what was asked to be changed, what was overcome.

use std::collections::{BTreeMap, BTreeSet};

use berth_sdk::{
    prelude::*,
    search,
    serde_json::{Map, Value},
};

use crate::{
    recommend::{self, Known},
    resource::Resource,
};

/// What is heard of other services.
pub const HEARD: [&str; 4] =
    ["execution.completed", "execution.failed", "review.changes_requested", "incident.resolved"];
/// Resources that one event suggests.
const SUGGESTED_MAX: usize = 3;
/// Suggestions that are kept for one person, the newest.
const KEPT_MAX: i64 = 50;
/// Words of an event that are looked at.
const WORDS_MAX: usize = 200;
/// Shorter words say nothing.
const CHARACTERS_MIN: usize = 2;
/// What a word in the title counts, where one that is a skill or a tag counts 3.
const TITLE: usize = 1;
const EXACT: usize = 3;
/// Less is chance.
const SCORE_MIN: usize = 2;

/// Handles the events in [`HEARD`].
pub fn hear(envelope: &Envelope) -> Result<()> {
    let data: Map<String, Value> = envelope.data()?;
    let named = ["requestedBy", "declaredBy", "startedBy"].iter().find_map(|name| data.get(*name)?.as_str());
    let user_id = named.map(ToString::to_string).or_else(|| envelope.user_id.clone());
    let Some(user_id) = user_id.and_then(|id| Id::parse(id).ok()) else { return Ok(()) };
    let source_id = ["executionId", "reviewId", "incidentId", "id"].iter().find_map(|name| data.get(*name)?.as_str());
    let said = words_of(&data);
    if said.is_empty() || auth::principal().organization_id.is_none() {
        return Ok(());
    }
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        // What is for a team may not be for the one it is suggested to.
        let open = Select::<Resource>::new().condition("team_id IS NULL", [] as [&str; 0]);
        let offered = recommend::known(transaction, open)?;
        for id in fitting(&said, &offered) {
            keep(transaction, &user_id, &id, &envelope.message_type, source_id.unwrap_or_default())?;
        }
        transaction.forget(recommend::key(&user_id));
        Ok(())
    })
}

/// The words of an event: of its texts that people write, down to the titles of its steps.
fn words_of(data: &Map<String, Value>) -> BTreeSet<String> {
    const TEXTS: [&str; 9] =
        ["title", "name", "description", "comment", "message", "detail", "code", "reviewableType", "type"];
    let mut texts: Vec<&str> = Vec::new();
    let mut open: Vec<&Map<String, Value>> = vec![data];
    for name in ["error", "steps", "failures"] {
        match data.get(name) {
            Some(Value::Object(inner)) => open.push(inner),
            Some(Value::Array(list)) => open.extend(list.iter().filter_map(Value::as_object).take(WORDS_MAX)),
            _ => {}
        }
    }
    for object in open {
        texts.extend(TEXTS.iter().filter_map(|name| object.get(*name).and_then(Value::as_str)));
    }
    let words = texts.into_iter().flat_map(search::words).map(|word| word.folded);
    words.filter(|word| word.chars().count() >= CHARACTERS_MIN).take(WORDS_MAX).collect()
}

/// The resources that fit the words best, none that fits by chance.
fn fitting(said: &BTreeSet<String>, offered: &[Known]) -> Vec<Id> {
    let mut scored: Vec<(usize, &Id)> = offered.iter().map(|one| (score(said, one), &one.id)).collect();
    scored.retain(|(score, _)| *score >= SCORE_MIN);
    scored.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(right.1)));
    scored.into_iter().take(SUGGESTED_MAX).map(|(_, id)| id.clone()).collect()
}

fn score(said: &BTreeSet<String>, one: &Known) -> usize {
    // A skill of several words has to be there whole.
    let is_said = |label: &&String| {
        let mut words = search::words(label.as_str()).peekable();
        words.peek().is_some() && words.all(|word| said.contains(&word.folded))
    };
    let labels: BTreeSet<&String> = one.skills.iter().chain(&one.tags).filter(is_said).collect();
    let title: BTreeSet<String> = search::words(&one.title).map(|word| word.folded).collect();
    let in_title = title.iter().filter(|word| word.chars().count() > 3 && said.contains(*word)).count();
    labels.len() * EXACT + in_title * TITLE
}

/// Keeps a suggestion, once for each person and resource; the oldest give way.
fn keep(transaction: &Transaction, user_id: &Id, resource_id: &Id, source: &str, source_id: &str) -> Result<()> {
    let organization_id = auth::organization_id()?;
    transaction.execute(
        "INSERT INTO learning_suggestions (id, organization_id, created_at, user_id, resource_id, source, source_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (organization_id, user_id, resource_id) DO UPDATE SET \
         created_at = excluded.created_at, source = excluded.source, source_id = excluded.source_id",
        params![Id::new(), &organization_id, clock::now(), user_id, resource_id, source, source_id],
    )?;
    transaction.execute(
        "DELETE FROM learning_suggestions WHERE organization_id = $1 AND user_id = $2 AND id NOT IN (SELECT id FROM \
         learning_suggestions WHERE organization_id = $1 AND user_id = $2 ORDER BY created_at DESC, id DESC LIMIT $3)",
        params![&organization_id, user_id, KEPT_MAX],
    )?;
    Ok(())
}

#[data]
struct Row {
    resource_id: Id,
    source: String,
}

/// What is suggested to somebody, and after what.
pub fn of(database: &dyn Executor, user_id: &Id) -> Result<BTreeMap<Id, String>> {
    let rows: Vec<Row> = database::query_as(
        database,
        "SELECT resource_id AS \"resourceId\", source FROM learning_suggestions \
         WHERE organization_id = $1 AND user_id = $2 ORDER BY created_at DESC LIMIT $3",
        params![auth::organization_id()?, user_id, KEPT_MAX],
    )?;
    Ok(rows.into_iter().map(|row| (row.resource_id, row.source)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str, title: &str, skills: &[&str]) -> Known {
        Known {
            id: id.into(),
            title: title.into(),
            url: "https://example.com".into(),
            skills: skills.iter().map(ToString::to_string).collect(),
            tags: Vec::new(),
            quality_score: None,
            helpful_count: 0,
        }
    }

    fn said(value: Value) -> BTreeSet<String> {
        words_of(value.as_object().unwrap())
    }

    #[test]
    fn the_words_of_an_event_are_what_people_wrote() {
        let words = said(json!({
            "title": "Flood", "projectId": "secretid", "error": {"code": "EDIT_MISMATCH", "message": "In Ünit"},
            "steps": [{"title": "Migrate PostgreSQL"}],
        }));
        for word in ["flood", "unit", "migrate", "postgresql"] {
            assert!(words.contains(word), "{word} in {words:?}");
        }
        assert!(!words.contains("secretid"));
    }

    #[test]
    fn a_resource_is_suggested_for_what_it_teaches_and_not_by_chance() {
        let offered = [
            known("r1", "Databases", &["PostgreSQL"]),
            known("r2", "Cooking for two", &["Soup"]),
            known("r3", "Incident response at night", &["Incident Response"]),
        ];
        let about = said(json!({"title": "PostgreSQL was away at night"}));
        assert_eq!(fitting(&about, &offered), [Id::from("r1")]);
        let about = said(json!({"title": "Response to the incident"}));
        assert_eq!(fitting(&about, &offered), [Id::from("r3")]);
        assert!(fitting(&said(json!({"title": "Nothing of it"})), &offered).is_empty());
    }
}
