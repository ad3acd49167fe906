//! Variables, copying, comparing and checking environments.

use berth_sdk::{
    prelude::*,
    serde_json::{self, Map, Value},
};

use super::{
    Environment, EnvironmentName,
    compare::{Difference, differences},
    config::{self, Config, is_reference},
};
use crate::project;

/// The variables of an environment.
#[data]
pub(crate) struct Variables {
    /// Values, or references to secrets. In a change only what is here changes; null removes.
    variables: Map<String, Value>,
}

/// `GET /api/environments/{id}/variables`.
pub(crate) fn variables(Params(id): Params<Id>) -> Result<Json<Variables>> {
    let environment = entity::read::<Environment>(&Pool, &id)?;
    Ok(Json(Variables { variables: environment.data.config.env_vars }))
}

/// `PUT /api/environments/{id}/variables`.
pub(crate) fn change_variables(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<Variables>,
) -> Result<Json<Variables>> {
    database::transaction(|transaction| {
        let mut environment = entity::read::<Environment>(transaction, &id)?;
        if_match.check(environment.version)?;
        project::require_edit(transaction, &environment.project_id)?;
        let known = &mut environment.config.env_vars;
        for (name, value) in input.variables {
            if value.is_null() {
                known.remove(&name);
            } else {
                known.insert(name, value);
            }
        }
        let mut faults = Faults::default();
        config::variables(known, "variables", &mut faults);
        faults.finish()?;
        let variables = known.clone();
        entity::save(transaction, &mut environment)?;
        Ok(Json(Variables { variables }))
    })
}

/// The body of `POST /api/environments/{id}/sync`.
#[data]
pub(crate) struct Source {
    /// The environment to copy from.
    source_id: Id,
    /// Which members of the configuration; all when absent.
    only: Option<Vec<Member>>,
}

/// A member of a configuration.
#[choice]
pub(crate) enum Member {
    DatabaseUrl,
    ApiUrl,
    Services,
    EnvVars,
    FeatureFlags,
    TimeRules,
}

/// `POST /api/environments/{id}/sync`. Variables that name a secret here keep naming it, so that no environment gets the
/// secrets of another by accident.
pub(crate) fn sync(
    Params(id): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<Source>,
) -> Result<Stored<Environment>> {
    if input.source_id == id {
        return Err(Problem::field("sourceId", "must be another environment"));
    }
    database::transaction(|transaction| {
        let mut environment = entity::read::<Environment>(transaction, &id)?;
        if_match.check(environment.version)?;
        project::require_edit(transaction, &environment.project_id)?;
        let source = entity::read::<Environment>(transaction, &input.source_id)?;
        let members = input.only.as_deref().unwrap_or(Member::ALL);
        let target = &mut environment.config;
        copy(&source.data.config, target, members);
        entity::save(transaction, &mut environment)?;
        Ok(environment)
    })
}

fn copy(source: &Config, target: &mut Config, members: &[Member]) {
    for member in members {
        match member {
            Member::DatabaseUrl if target.database_url.as_ref().is_some_and(is_reference) => {}
            Member::DatabaseUrl => target.database_url = source.database_url.clone(),
            Member::ApiUrl => target.api_url = source.api_url.clone(),
            Member::Services => target.services = source.services.clone(),
            Member::FeatureFlags => target.feature_flags = source.feature_flags.clone(),
            Member::TimeRules => target.time_rules = source.time_rules.clone(),
            Member::EnvVars => {
                let mut copied = source.env_vars.clone();
                let own = std::mem::take(&mut target.env_vars);
                copied.extend(own.into_iter().filter(|(_, value)| is_reference(value)));
                target.env_vars = copied;
            }
        }
    }
}

/// Which two are compared.
#[data]
pub(crate) struct Pair {
    a: Id,
    b: Id,
}

/// What differs between two environments.
#[data]
pub(crate) struct Comparison {
    a: Side,
    b: Side,
    is_same: bool,
    differences: Vec<Difference>,
}

/// One of the two.
#[data]
pub(crate) struct Side {
    id: Id,
    project_id: Id,
    name: EnvironmentName,
}

/// `GET /api/environments/compare?a&b`.
pub(crate) fn compare(Query(pair): Query<Pair>) -> Result<Json<Comparison>> {
    let a = entity::read::<Environment>(&Pool, &pair.a)?;
    let b = entity::read::<Environment>(&Pool, &pair.b)?;
    let differences = differences(&members(&a.config), &members(&b.config));
    let side = |environment: Stored<Environment>| Side {
        id: environment.id,
        project_id: environment.data.project_id,
        name: environment.data.name,
    };
    Ok(Json(Comparison { a: side(a), b: side(b), is_same: differences.is_empty(), differences }))
}

fn members(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// What a check says.
#[data]
pub(crate) struct Verdict {
    is_valid: bool,
    errors: Vec<Remark>,
    warnings: Vec<Remark>,
}

/// One thing it says.
#[data]
pub(crate) struct Remark {
    /// Such as `config.envVars.API_LEVEL`.
    field: String,
    message: String,
}

/// `POST /api/environments/{id}/validate`: what is wrong, and what its siblings have and it has not.
pub(crate) fn validate(Params(id): Params<Id>) -> Result<Json<Verdict>> {
    let environment = entity::read::<Environment>(&Pool, &id)?;
    let siblings: Vec<Stored<Environment>> =
        Select::new().equal("project_id", &environment.project_id).condition("id <> ?", [&id]).all(&Pool)?;
    let others: Vec<(EnvironmentName, &Config)> =
        siblings.iter().map(|sibling| (sibling.name, &sibling.config)).collect();
    Ok(Json(judge(environment.name, &environment.config, &others)))
}

fn judge(name: EnvironmentName, config: &Config, others: &[(EnvironmentName, &Config)]) -> Verdict {
    let mut faults = Faults::default();
    config.faults(&mut faults);
    let errors: Vec<Remark> = faults
        .errors()
        .iter()
        .map(|error| Remark { field: error.field.clone(), message: error.message.clone() })
        .collect();
    let mut warnings = Vec::new();
    let mut warn = |field: String, message: String| warnings.push(Remark { field, message });
    for (other, theirs) in others {
        for variable in theirs.env_vars.keys().filter(|variable| !config.env_vars.contains_key(*variable)) {
            warn(format!("config.envVars.{variable}"), format!("{other} has it, {name} has not"));
        }
        for service in theirs.services.iter().filter(|service| !config.services.contains(service)) {
            warn("config.services".into(), format!("{other} runs {service}, {name} does not"));
        }
    }
    if name == EnvironmentName::Production {
        if config.api_url.is_none() {
            warn("config.apiUrl".into(), "production has no address".into());
        }
        if config.api_url.as_deref().is_some_and(|url| url.starts_with("http://")) {
            warn("config.apiUrl".into(), "production is reached without TLS".into());
        }
        if config.time_rules.as_ref().is_none_or(time_rules::TimeRules::is_empty) {
            warn("config.timeRules".into(), "production can be deployed to at any time".into());
        }
    }
    Verdict { is_valid: errors.is_empty(), errors, warnings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Config {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_copy_keeps_the_targets_own_secrets() {
        let reference = |id: &str| json!({"type": "SECRET_REF", "secretId": id});
        let source = config(json!({"apiUrl": "https://a.example", "envVars": {"S": reference("theirs"), "A": "1"}}));
        let mut target = config(json!({"envVars": {"S": reference("own"), "B": "2"}, "services": ["x"]}));
        copy(&source, &mut target, &[Member::EnvVars]);
        assert_eq!(target, config(json!({"envVars": {"S": reference("own"), "A": "1"}, "services": ["x"]})));
        copy(&source, &mut target, Member::ALL);
        assert_eq!((target.services.len(), target.api_url.as_deref()), (0, Some("https://a.example")));
    }

    #[test]
    fn what_the_siblings_have_is_missed() {
        let (own, other) = (
            config(json!({"envVars": {"A": "1"}})),
            config(json!({"envVars": {"A": "1", "B": "2"}, "services": ["api"]})),
        );
        let verdict = judge(EnvironmentName::Test, &own, &[(EnvironmentName::Dev, &other)]);
        let fields: Vec<&str> = verdict.warnings.iter().map(|remark| remark.field.as_str()).collect();
        assert_eq!((verdict.is_valid, fields), (true, vec!["config.envVars.B", "config.services"]));
    }
}
