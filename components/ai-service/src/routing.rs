//! Which model is asked, and which ones when that fails: explicit, preferred, by rule, by default; fallback chains.

use std::{collections::BTreeSet, time::Duration};

use berth_sdk::{prelude::*, types::Scope};

use crate::{
    HOLDS, access,
    ask::Ask,
    catalog::{Catalog, KnownModel, WhyNot},
    model::Model,
    provider,
};

/// Rules, and chains, of an organization.
const RULES_MAX: i64 = 200;
/// Models of one chain beside the first.
const FALLBACKS_MAX: usize = 10;
/// How long one attempt may take where no chain says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A rule: questions of this kind go to that model.
#[entity(table = "ai_routing_rules", name = "routing rule", sort = "priority", global)]
pub struct RoutingRule {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// Whose it is.
    #[field(immutable, default = Scope::Organization)]
    pub scope: Scope,
    /// Only questions of this task.
    #[field(max = 100, filter)]
    pub task_type: Option<String>,
    /// Only questions with at least so many tokens.
    #[field(min = 0)]
    pub context_size_min: Option<i64>,
    /// Only questions with at most so many tokens.
    #[field(min = 0)]
    pub context_size_max: Option<i64>,
    /// Only questions with, or only those without images.
    pub requires_vision: Option<bool>,
    /// Only questions with, or only those without tools.
    pub requires_functions: Option<bool>,
    /// Where they go.
    #[field(parent = Model)]
    pub model_id: Id,
    /// The smallest is looked at first.
    #[field(default = 100, min = 0, max = 1_000_000)]
    pub priority: i64,
    /// Whether it counts.
    #[field(default = true)]
    pub is_enabled: bool,
}

impl Rules for RoutingRule {
    fn check(&self, faults: &mut Faults) {
        provider::check_scope(self.scope, faults);
        if matches!((self.context_size_min, self.context_size_max), (Some(min), Some(max)) if min > max) {
            faults.add("contextSizeMax", "must not be below contextSizeMin");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_manager(self.scope == Scope::Global)?;
        transaction.hold(HOLDS, "routing rules")?;
        bounded(Select::<Self>::new().count(transaction)?)
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(old.organization_id.is_none())
    }

    fn before_delete(row: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(row.organization_id.is_none())
    }
}

/// A chain: when this model fails, those are asked, one after another.
#[entity(table = "ai_fallback_chains", name = "fallback chain")]
pub struct FallbackChain {
    /// Which.
    #[field(parent = Model)]
    pub primary_model_id: Id,
    /// In this order.
    #[field(min = 1, max = 10)]
    pub fallback_model_ids: Vec<Id>,
    /// When the provider is at fault.
    #[field(default = true)]
    pub trigger_on_error: bool,
    /// When the provider takes no more.
    #[field(default = true)]
    pub trigger_on_rate_limit: bool,
    /// When there is no answer in time.
    #[field(default = true)]
    pub trigger_on_timeout: bool,
    /// How long one attempt may take.
    #[field(default = 30_000, min = 100, max = 30_000)]
    pub timeout_ms: i64,
}

impl Rules for FallbackChain {
    fn check(&self, faults: &mut Faults) {
        let ids = &self.fallback_model_ids;
        let distinct: BTreeSet<&Id> = ids.iter().chain([&self.primary_model_id]).collect();
        if ids.is_empty() || ids.len() > FALLBACKS_MAX {
            faults.add("fallbackModelIds", format!("must have 1 to {FALLBACKS_MAX} entries"));
        } else if distinct.len() != ids.len() + 1 {
            faults.add("fallbackModelIds", "must name each model once, and not the first one");
        }
    }

    fn before_create(&mut self, transaction: &Transaction) -> Result<()> {
        access::require_manager(false)?;
        bounded(Select::<Self>::new().count_in_turn(transaction)?)?;
        self.require_models(transaction)
    }

    fn before_update(&mut self, _: &Stored<Self>, transaction: &Transaction) -> Result<()> {
        access::require_manager(false)?;
        self.require_models(transaction)
    }

    fn before_delete(_: &Stored<Self>, _: &Transaction) -> Result<()> {
        access::require_manager(false)
    }
}

impl FallbackChain {
    fn require_models(&self, transaction: &Transaction) -> Result<()> {
        let found = Select::<Model>::new().one_of("id", &self.fallback_model_ids).count(transaction)?;
        if usize::try_from(found) == Ok(self.fallback_model_ids.len()) {
            return Ok(());
        }
        Err(Problem::missing("model"))
    }
}

fn bounded(count: i64) -> Result<()> {
    if count < RULES_MAX {
        return Ok(());
    }
    Err(Problem::unprocessable(format!("An organization has at most {RULES_MAX} of them.")))
}

/// What a question needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// About how many tokens it has.
    pub tokens: i64,
    /// It has images.
    pub vision: bool,
    /// It has tools.
    pub functions: bool,
    /// What it is for.
    pub task_type: Option<String>,
}

impl Needs {
    /// Of a question.
    pub fn of(ask: &Ask) -> Self {
        Self {
            tokens: ask.tokens(),
            vision: ask.has_images(),
            functions: !ask.tools.is_empty(),
            task_type: ask.task_type.clone(),
        }
    }

    /// What a model lacks for it.
    fn lacks(&self, model: &KnownModel) -> Option<&'static str> {
        match (self.vision && !model.supports_vision, self.functions && !model.supports_functions) {
            (true, _) => Some("The model sees no images."),
            (_, true) => Some("The model calls no tools."),
            _ => None,
        }
    }
}

impl RoutingRule {
    /// Whether it speaks of such a question.
    pub fn matches(&self, needs: &Needs) -> bool {
        self.is_enabled
            && self.task_type.as_ref().is_none_or(|task| needs.task_type.as_ref() == Some(task))
            && self.context_size_min.is_none_or(|min| needs.tokens >= min)
            && self.context_size_max.is_none_or(|max| needs.tokens <= max)
            && self.requires_vision.is_none_or(|vision| vision == needs.vision)
            && self.requires_functions.is_none_or(|functions| functions == needs.functions)
    }
}

/// The rules of the caller's organization, in their order; its own before everybody's of the same priority.
pub fn rules() -> Result<Vec<Stored<RoutingRule>>> {
    let mut rules = Select::<RoutingRule>::new().equal("is_enabled", true).limit(RULES_MAX * 2).all(&Pool)?;
    rules.sort_by_key(|rule| (rule.priority, rule.organization_id.is_none()));
    Ok(rules)
}

/// The model that is asked.
///
/// # Errors
/// 404 for an unknown model, 403 for a disabled one, 422 for one that cannot do it, 503 when there is none.
pub fn choose<'a>(
    catalog: &'a Catalog,
    ask: &Ask,
    needs: &Needs,
    user_id: Option<&str>,
    rules: impl FnOnce() -> Result<Vec<Stored<RoutingRule>>>,
) -> Result<&'a KnownModel> {
    let none = |why: String| Problem::unavailable(why).with_code("NO_MODEL_AVAILABLE");
    let can = |model: &KnownModel| catalog.why_not(model, user_id).is_none() && needs.lacks(model).is_none();
    if let Some(wanted) = &ask.model {
        let model =
            catalog.find(wanted, user_id).ok_or_else(|| Problem::missing("model").with_code("MODEL_NOT_FOUND"))?;
        return match catalog.why_not(model, user_id) {
            Some(why @ WhyNot::Disabled) => Err(Problem::forbidden(why.to_string()).with_code("MODEL_DISABLED")),
            Some(why @ WhyNot::NoAnswers) => Err(Problem::unprocessable(why.to_string()).with_code("MODEL_UNSUITABLE")),
            Some(WhyNot::Provider(why)) => Err(none(why)),
            None => match needs.lacks(model) {
                Some(why) => Err(Problem::unprocessable(why).with_code("MODEL_UNSUITABLE")),
                None => Ok(model),
            },
        };
    }
    if let Some(model) =
        ask.preferred.as_ref().and_then(|wanted| catalog.find(wanted, user_id)).filter(|model| can(model))
    {
        return Ok(model);
    }
    for rule in rules()?.iter().filter(|rule| rule.matches(needs)) {
        if let Some(model) = catalog.model(&rule.model_id).filter(|model| can(model)) {
            return Ok(model);
        }
    }
    catalog
        .defaults(user_id)
        .into_iter()
        .find(|model| needs.lacks(model).is_none())
        .ok_or_else(|| none("No model is enabled that can answer this.".into()))
}

/// What follows when a model fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Way<'a> {
    /// The chosen one first.
    pub models: Vec<&'a KnownModel>,
    /// When the provider is at fault.
    pub on_error: bool,
    /// When the provider takes no more.
    pub on_rate_limit: bool,
    /// When there is no answer in time.
    pub on_timeout: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// The chosen model with those that stand in for it, as far as these can be asked at all.
pub fn way<'a>(catalog: &'a Catalog, first: &'a KnownModel, needs: &Needs, user_id: Option<&str>) -> Result<Way<'a>> {
    let chain = Select::<FallbackChain>::new().equal("primary_model_id", first.id.as_str()).first(&Pool)?;
    let mut way =
        Way { models: vec![first], on_error: false, on_rate_limit: false, on_timeout: false, timeout: TIMEOUT };
    let Some(chain) = chain else { return Ok(way) };
    way.on_error = chain.trigger_on_error;
    way.on_rate_limit = chain.trigger_on_rate_limit;
    way.on_timeout = chain.trigger_on_timeout;
    way.timeout = Duration::from_millis(u64::try_from(chain.timeout_ms).unwrap_or(30_000)).min(TIMEOUT);
    let others = chain.fallback_model_ids.iter().filter_map(|id| catalog.model(id));
    way.models.extend(others.filter(|model| catalog.why_not(model, user_id).is_none() && needs.lacks(model).is_none()));
    Ok(way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::sample, provider::ProviderType};

    fn rule(priority: i64, model_id: &str, task: Option<&str>) -> Stored<RoutingRule> {
        let data = RoutingRule {
            name: "r".into(),
            scope: Scope::Organization,
            task_type: task.map(Into::into),
            context_size_min: None,
            context_size_max: Some(100),
            requires_vision: None,
            requires_functions: None,
            model_id: model_id.into(),
            priority,
            is_enabled: true,
        };
        let now = clock::now();
        Stored {
            id: Id::new(),
            organization_id: Some("o1".into()),
            created_by: None,
            created_at: now,
            updated_at: now,
            version: 1,
            data,
        }
    }

    fn catalog() -> Catalog {
        let mut default = sample::model("m1", "p1", "small");
        default.is_default = true;
        default.supports_functions = false;
        Catalog {
            providers: vec![sample::provider("p1", ProviderType::Openai)],
            models: vec![default, sample::model("m2", "p1", "large"), sample::model("m3", "p1", "code")],
            settings: vec![sample::setting("m3", None, false, false)],
        }
    }

    fn chosen(ask: &Ask, rules: Vec<Stored<RoutingRule>>) -> Result<String> {
        let catalog = catalog();
        choose(&catalog, ask, &Needs::of(ask), Some("u1"), || Ok(rules)).map(|model| model.id.clone())
    }

    #[test]
    fn explicit_then_preferred_then_rules_then_default() {
        let named = |model: Option<&str>, preferred: Option<&str>| Ask {
            model: model.map(Into::into),
            preferred: preferred.map(Into::into),
            task_type: Some("code".into()),
            ..Ask::default()
        };
        let rules = || vec![rule(1, "m3", None), rule(2, "m1", Some("chat")), rule(3, "m2", Some("code"))];
        assert_eq!(chosen(&named(Some("small"), Some("large")), rules()).unwrap(), "m1");
        assert_eq!(chosen(&named(None, Some("small")), rules()).unwrap(), "m1");
        assert_eq!(chosen(&named(None, Some("code")), rules()).unwrap(), "m2", "a disabled one is only a wish");
        assert_eq!(chosen(&named(None, Some("nothing")), rules()).unwrap(), "m2");
        assert_eq!(chosen(&named(None, None), Vec::new()).unwrap(), "m1");
        assert_eq!(chosen(&named(Some("nothing"), None), rules()).unwrap_err().status, 404);
        assert_eq!(chosen(&named(Some("code"), None), rules()).unwrap_err().status, 403);
    }

    #[test]
    fn a_question_with_tools_goes_to_a_model_that_calls_them() {
        let tool = crate::ask::Tool { name: "a".into(), description: String::new(), parameters: json!({}) };
        let mut ask = Ask { tools: vec![tool], ..Ask::default() };
        assert_eq!(chosen(&ask, Vec::new()).unwrap(), "m2");
        ask.model = Some("small".into());
        assert_eq!(chosen(&ask, Vec::new()).unwrap_err().code, "MODEL_UNSUITABLE");
    }

    #[test]
    fn without_a_model_it_is_503() {
        let mut catalog = catalog();
        catalog.providers[0].why_not = Some("no key".into());
        let ask = Ask::default();
        let problem = choose(&catalog, &ask, &Needs::default(), None, || Ok(Vec::new())).unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref()), (503, "NO_MODEL_AVAILABLE"));
        let ask = Ask { model: Some("small".into()), ..ask };
        let problem = choose(&catalog, &ask, &Needs::default(), None, || Ok(Vec::new())).unwrap_err();
        assert_eq!((problem.status, problem.code.as_ref()), (503, "NO_MODEL_AVAILABLE"));
    }

    #[test]
    fn a_chain_names_each_model_once() {
        let faults = |ids: &[&str]| {
            let chain = FallbackChain {
                primary_model_id: "m1".into(),
                fallback_model_ids: ids.iter().map(|id| Id::from(*id)).collect(),
                trigger_on_error: true,
                trigger_on_rate_limit: true,
                trigger_on_timeout: true,
                timeout_ms: 1_000,
            };
            let mut faults = Faults::default();
            chain.check(&mut faults);
            faults.errors().len()
        };
        assert_eq!((faults(&["m2"]), faults(&[]), faults(&["m1"]), faults(&["m2", "m2"])), (0, 1, 1, 1));
    }
}
