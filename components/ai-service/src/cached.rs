//! Answers that are kept for an hour: only where the question asks for it and the temperature is 0.

use std::time::Duration;

use berth_sdk::{canonical, prelude::*, serde_json, serde_json::Value};

use crate::{ask::Ask, catalog::KnownModel};

/// How long.
const TTL: Duration = Duration::from_secs(3_600);
/// Bytes of an answer that is kept.
const BYTES_MAX: usize = 256 * 1024;
/// Answers of one organization.
const ROWS_MAX: i64 = 5_000;

/// What names a question: the organization, the model as it is set up now, and all that decides about the answer. None when it is
/// not to be answered from the cache.
pub fn hash(ask: &Ask, model: &KnownModel, max_tokens: Option<i64>, organization_id: &str) -> Option<String> {
    (ask.use_cache && ask.temperature == Some(0.0)).then(|| {
        // How long an answer may be is also a matter of settings, which differ between users.
        canonical::sha256(&json!({
            "organization": organization_id, "model": [model.id, model.version], "maxTokens": max_tokens,
            "ask": ask.to_value(),
        }))
    })
}

/// The answer to the same question.
pub fn find(hash: &str) -> Result<Option<Value>> {
    let found = database::query_one(
        "SELECT response FROM ai_cache WHERE request_hash = $1 AND organization_id = $2 AND expires_at > $3",
        params![hash, auth::organization_id()?, clock::now()],
    )?;
    let Some(row) = found else { return Ok(None) };
    database::execute("UPDATE ai_cache SET hit_count = hit_count + 1 WHERE request_hash = $1", params![hash])?;
    Ok(Some(row.json("response")?))
}

/// Keeps an answer; that it cannot be kept is no failure.
pub fn keep(hash: &str, model: &KnownModel, response: &Value) {
    if let Err(problem) = store(hash, model, response) {
        logging::warn!("an answer could not be kept", problem = problem);
    }
}

fn store(hash: &str, model: &KnownModel, response: &Value) -> Result<()> {
    if serde_json::to_string(response).map_or(usize::MAX, |text| text.len()) > BYTES_MAX {
        return Ok(());
    }
    let organization_id = auth::organization_id()?;
    let held = database::query_one(
        "SELECT COUNT(*) AS total FROM ai_cache WHERE organization_id = $1",
        params![&organization_id],
    )?;
    if held.map_or(Ok(0), |row| row.get::<i64>("total"))? >= ROWS_MAX {
        return Ok(());
    }
    let now = clock::now();
    database::execute(
        "INSERT INTO ai_cache (id, organization_id, created_by, created_at, updated_at, version, request_hash, model_id, response, \
         expires_at, hit_count) VALUES ($1, $2, $3, $4, $4, 1, $5, $6, $7, $8, 0) \
         ON CONFLICT (request_hash) DO UPDATE SET response = excluded.response, expires_at = excluded.expires_at, \
         updated_at = excluded.updated_at",
        params![
            Id::new(),
            &organization_id,
            auth::principal().user_id,
            now,
            hash,
            &model.id,
            response.clone(),
            now.plus(TTL)
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::sample,
        message::{Role, Turn},
    };

    #[test]
    fn only_what_asks_for_it_at_temperature_zero_is_kept_and_everything_counts() {
        let model = sample::model("m1", "p1", "small");
        let ask =
            Ask { turns: vec![Turn::text(Role::User, "x")], temperature: Some(0.0), use_cache: true, ..Ask::default() };
        let first = hash(&ask, &model, None, "o1").unwrap();
        assert_eq!(hash(&ask, &model, None, "o1").unwrap(), first);
        assert_ne!(hash(&ask, &model, None, "o2").unwrap(), first);
        assert_ne!(hash(&ask, &model, Some(5), "o1").unwrap(), first, "somebody whose answers are short");
        assert_ne!(hash(&ask, &sample::model("m2", "p1", "small"), None, "o1").unwrap(), first);
        let changed = KnownModel { version: 2, ..model.clone() };
        assert_ne!(hash(&ask, &changed, None, "o1").unwrap(), first, "it may be another model under the same id");
        assert_ne!(hash(&Ask { max_tokens: Some(3), ..ask.clone() }, &model, Some(3), "o1").unwrap(), first);
        assert!(hash(&Ask { temperature: None, ..ask.clone() }, &model, None, "o1").is_none());
        assert!(hash(&Ask { temperature: Some(0.1), ..ask.clone() }, &model, None, "o1").is_none());
        assert!(hash(&Ask { use_cache: false, ..ask }, &model, None, "o1").is_none());
    }
}
