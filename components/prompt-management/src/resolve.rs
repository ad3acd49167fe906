//! Which text counts: an experiment's before an override's before the published one. Everything it takes is cached together
//! for a minute.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

use crate::{
    experiment::{self, Running, assign},
    overrides::Override,
    prompt::{self, Prompt, PromptScope},
    variable::{self, Variable},
    version::{self, VersionStatus},
};

/// How long what counts stays in the cache.
const CACHED: Duration = Duration::from_secs(60);

/// A text of a prompt.
#[data]
pub struct Text {
    /// The version's row.
    pub id: Id,
    /// Its number.
    pub version: i64,
    /// The text.
    pub content: String,
}

/// Everything that decides about a prompt.
#[data]
pub struct Known {
    /// The prompt.
    pub prompt_id: Id,
    /// Its name.
    pub name: String,
    /// How far it reaches.
    pub scope: prompt::PromptScope,
    /// The project that it is of, or is labelled with.
    pub project_id: Option<Id>,
    /// Whether it can be rendered.
    pub is_active: bool,
    /// The models it works best with.
    pub preferred_models: Vec<String>,
    /// What it is in a conversation.
    pub category: prompt::PromptCategory,
    /// What it is filled with.
    pub variables: Vec<Variable>,
    /// The published text.
    pub published: Option<Text>,
    /// The organization's own text.
    pub overriding: Option<String>,
    /// The experiment that runs.
    pub experiment: Option<Running>,
}

/// Where a text comes from.
#[choice]
pub enum Source {
    /// A version.
    Base,
    /// The organization's override.
    Override,
    /// An experiment.
    Experiment,
}

/// The text that counts for one caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The text.
    pub content: String,
    /// The version that it is, or stands in for.
    pub version: Text,
    /// Where it comes from.
    pub source: Source,
    /// The experiment's variant.
    pub variant_id: Option<Id>,
}

fn cache_key(id_or_name: &str) -> String {
    format!("shared:{id_or_name}")
}

/// What is cached of a prompt goes.
pub fn forget(prompt: &Stored<Prompt>) {
    cache::del(&cache_key(&prompt.id));
    cache::del(&cache_key(&prompt.name));
}

/// The same, where only the id is at hand.
pub fn forget_id(prompt_id: &str) {
    if let Ok(prompt) = prompt::named(&Pool, prompt_id) {
        forget(&prompt);
    }
}

/// Everything about the prompt of an id or a name; 404.
pub fn known(id_or_name: &str) -> Result<Known> {
    let key = cache_key(id_or_name);
    if let Some(known) = cache::get(&key) {
        return Ok(known);
    }
    let prompt = prompt::named(&Pool, id_or_name)?;
    let known = load(&prompt)?;
    if is_shared(&prompt)? {
        cache::set_ttl(&key, &known, CACHED);
    }
    Ok(known)
}

/// Whether everybody in the organization finds this prompt by its name: what is cached is one for all of them.
fn is_shared(prompt: &Stored<Prompt>) -> Result<bool> {
    match prompt.scope {
        PromptScope::Organization => Ok(true),
        PromptScope::Project | PromptScope::User => Ok(false),
        // Somebody's own prompt, which the caller does not see, may stand before it.
        PromptScope::Global => {
            let sql = "SELECT id FROM prompt_prompts WHERE organization_id = $1 AND name = $2";
            let own = database::query_one(sql, params![auth::organization_id()?, prompt.name.as_str()])?;
            Ok(own.is_none())
        }
    }
}

fn load(prompt: &Stored<Prompt>) -> Result<Known> {
    let published = match prompt.published_version {
        Some(number) => {
            let version = version::numbered(&Pool, &prompt.id, number)?;
            Some(Text { id: version.id.clone(), version: version.data.version, content: version.content.clone() })
        }
        None => None,
    };
    let overriding = Select::<Override>::new()
        .equal("prompt_id", &prompt.id)
        .equal("is_active", true)
        .condition("\"approved_at\" IS NOT NULL", [] as [Id; 0])
        .sort("-priority")
        .first(&Pool)?;
    Ok(Known {
        prompt_id: prompt.id.clone(),
        name: prompt.name.clone(),
        scope: prompt.scope,
        project_id: prompt.project_id.clone(),
        is_active: prompt.is_active,
        preferred_models: prompt.preferred_models.clone(),
        category: prompt.category,
        variables: variable::of_prompt(&Pool, &prompt.id)?.into_iter().map(|row| row.data).collect(),
        published,
        overriding: overriding.map(|row| row.content.clone()),
        experiment: experiment::running(&prompt.id)?,
    })
}

/// The number of the version that is asked for: given as one, or as the label of the newest one that has it; 404.
pub fn asked(known: &Known, number: Option<i64>, label: Option<&str>) -> Result<Option<i64>> {
    match (number, label) {
        (None, Some(label)) => Ok(Some(version::labelled(&Pool, &known.prompt_id, label)?.data.version)),
        (number, _) => Ok(number),
    }
}

/// The text for a caller. `number` asks for a version and nothing else.
pub fn choose(known: &Known, number: Option<i64>, user_id: Option<&str>, with_experiments: bool) -> Result<Chosen> {
    if !known.is_active {
        return Err(Problem::conflict("The prompt is not in use.").with_code("PROMPT_INACTIVE"));
    }
    if let Some(number) = number {
        let version = version::numbered(&Pool, &known.prompt_id, number)?;
        if version.status == VersionStatus::Archived {
            return Err(Problem::conflict("The version was put away."));
        }
        let text = Text { id: version.id.clone(), version: version.data.version, content: version.content.clone() };
        return Ok(Chosen { content: text.content.clone(), version: text, source: Source::Base, variant_id: None });
    }
    let published = known
        .published
        .clone()
        .ok_or_else(|| Problem::conflict("No version of the prompt is published.").with_code("NO_PUBLISHED_VERSION"))?;
    let variant = known
        .experiment
        .as_ref()
        .filter(|experiment| with_experiments && experiment.runs_at(clock::now()))
        .zip(user_id)
        .and_then(|(experiment, user_id)| assign::variant(experiment, user_id));
    Ok(match (variant, &known.overriding) {
        (Some(variant), _) => Chosen {
            content: variant.content.clone(),
            version: variant.version.clone().unwrap_or(published),
            source: Source::Experiment,
            variant_id: Some(variant.id.clone()),
        },
        (None, Some(content)) => {
            Chosen { content: content.clone(), version: published, source: Source::Override, variant_id: None }
        }
        (None, None) => {
            Chosen { content: published.content.clone(), version: published, source: Source::Base, variant_id: None }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let text = Text { id: "v1".into(), version: 1, content: "base".into() };
        let arm = |id: &str| assign::Arm { id: id.into(), weight: 1, version: None, content: id.into() };
        Known {
            prompt_id: "p1".into(),
            name: "greet".into(),
            scope: prompt::PromptScope::Organization,
            project_id: None,
            is_active: true,
            preferred_models: vec![],
            category: prompt::PromptCategory::User,
            variables: vec![],
            published: Some(text),
            overriding: Some("own".into()),
            experiment: Some(Running {
                id: "x1".into(),
                traffic_percentage: 100,
                start_date: None,
                end_date: None,
                arms: vec![arm("a"), arm("b")],
            }),
        }
    }

    fn source(known: &Known, user_id: Option<&str>, with_experiments: bool) -> Source {
        choose(known, None, user_id, with_experiments).unwrap().source
    }

    #[test]
    fn an_experiment_comes_before_an_override_and_that_before_the_base() {
        let mut known = known();
        assert_eq!(source(&known, Some("u1"), true), Source::Experiment);
        assert_eq!(source(&known, Some("u1"), false), Source::Override);
        assert_eq!(source(&known, None, true), Source::Override);
        known.overriding = None;
        assert_eq!(source(&known, None, true), Source::Base);
        known.experiment.as_mut().unwrap().end_date = Some(Timestamp::from_millis(1));
        assert_eq!(source(&known, Some("u1"), true), Source::Base);
    }

    #[test]
    fn nothing_published_and_not_in_use_are_conflicts() {
        let mut known = known();
        known.published = None;
        assert_eq!(choose(&known, None, Some("u1"), true).unwrap_err().code, "NO_PUBLISHED_VERSION");
        known.is_active = false;
        assert_eq!(choose(&known, None, Some("u1"), true).unwrap_err().code, "PROMPT_INACTIVE");
    }
}
