//! Templates: the words of an event type in a channel and a language.

pub mod render;

use berth_sdk::{
    cache,
    prelude::*,
    serde_json::{Map, Value},
};

use crate::kinds::{Category, Channel, Criticality};
use render::{Style, fill};

/// How long the templates of a type stay in the cache.
const CACHED: std::time::Duration = std::time::Duration::from_secs(300);
/// Templates of one type that are looked at.
const TEMPLATES_MAX: i64 = 200;

/// Whose templates they are.
#[choice(upper)]
pub enum TemplateScope {
    /// Everybody's; written by the platform.
    Global,
    /// One organization's, which beats the global one.
    Organization,
}

/// The words of one event type in one channel and language.
#[entity(table = "notification_templates", name = "template", global, sort = "eventType")]
pub struct Template {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// As in `task.assigned`.
    #[field(min = 1, max = 200, filter)]
    pub event_type: String,
    /// The channel.
    pub channel: Channel,
    /// As in `en` or `de-AT`.
    #[field(default = "en", min = 2, max = 35, filter)]
    pub locale: String,
    /// The subject or title.
    #[field(max = 500)]
    pub subject: Option<String>,
    /// The text, with `{{name}}` for values.
    #[field(min = 1, max = 50_000, raw)]
    pub body: String,
    /// The same as HTML, for e-mail.
    #[field(max = 200_000, raw)]
    pub body_html: Option<String>,
    /// The names it uses; read off the texts when absent.
    #[field(default, max = 100)]
    pub variables: Vec<String>,
    /// Whether it is used.
    #[field(default = true)]
    pub enabled: bool,
    /// Whether it is what others start from.
    #[field(default = false)]
    pub is_default: bool,
    /// Whose it is.
    #[field(default = TemplateScope::Organization, immutable)]
    pub scope: TemplateScope,
    /// How much such an event matters, where its type leaves that to the template.
    pub criticality: Option<Criticality>,
    /// What it is about, instead of what its type says.
    pub category: Option<Category>,
}

impl Rules for Template {
    fn check(&self, faults: &mut Faults) {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        if !self.event_type.chars().all(fits) {
            faults.add("eventType", "must be a type such as task.assigned");
        }
        if !self.locale.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
            faults.add("locale", "must be a language such as en or de-AT");
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        if self.variables.is_empty() {
            self.variables = self.used();
        }
        Ok(())
    }

    fn before_update(&mut self, old: &Stored<Self>, _: &Transaction) -> Result<()> {
        if self.variables == old.variables && (self.body != old.body || self.subject != old.subject) {
            self.variables = self.used();
        }
        // Under its old type it must not be found either, should the type change.
        forget(&old.event_type);
        Ok(())
    }

    fn committed(row: &Stored<Self>) {
        forget(&row.event_type);
    }
}

impl Template {
    fn used(&self) -> Vec<String> {
        let texts = [self.subject.as_deref(), Some(self.body.as_str()), self.body_html.as_deref()];
        render::names(&texts.into_iter().flatten().collect::<Vec<_>>())
    }
}

fn cache_key(event_type: &str) -> String {
    format!("templates:{event_type}")
}

fn forget(event_type: &str) {
    cache::del(&cache_key(event_type));
}

/// The enabled templates of a type, the organization's before the global ones.
pub fn of_type(event_type: &str) -> Result<Vec<Template>> {
    cache::remember(&cache_key(event_type), CACHED, || {
        let rows = Select::<Template>::new()
            .equal("event_type", event_type)
            .equal("enabled", true)
            .limit(TEMPLATES_MAX)
            .all(&Pool)?;
        let mut templates: Vec<Template> = rows.into_iter().map(|row| row.data).collect();
        templates.sort_by_key(|template| template.scope == TemplateScope::Global);
        Ok(templates)
    })
}

/// The template for a channel and a language: that language, then without its region, then English; within each the
/// organization's own before the global one.
pub fn pick<'a>(templates: &'a [Template], channel: Channel, locale: &str) -> Option<&'a Template> {
    let language = locale.split('-').next().unwrap_or(locale);
    [locale, language, "en"].iter().find_map(|wanted| {
        templates.iter().find(|template| template.channel == channel && template.locale.eq_ignore_ascii_case(wanted))
    })
}

/// Words, ready to be sent.
#[data]
#[derive(Default)]
pub struct Words {
    /// The subject or title.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
}

/// The words of a notification in a channel; what is missing is empty, logged, and never in the way.
pub fn words(templates: &[Template], channel: Channel, locale: &str, values: &Value, plain: &Words) -> Words {
    let Some(template) = pick(templates, channel, locale) else { return plain.clone() };
    let (words, missing) = filled(template, values);
    if !missing.is_empty() {
        logging::warn!("a template misses values", event_type = template.event_type, missing = missing.join(","));
    }
    Words { subject: if words.subject.is_empty() { plain.subject.clone() } else { words.subject }, ..words }
}

fn filled(template: &Template, values: &Value) -> (Words, Vec<String>) {
    let subject = fill(template.subject.as_deref().unwrap_or_default(), values, Style::Line);
    let text = fill(&template.body, values, Style::Plain);
    let html = template.body_html.as_deref().map(|html| fill(html, values, Style::Html));
    let mut missing = subject.missing;
    for name in text.missing.into_iter().chain(html.iter().flat_map(|html| html.missing.clone())) {
        if !missing.contains(&name) {
            missing.push(name);
        }
    }
    (Words { subject: subject.text, text: text.text, html: html.map(|html| html.text) }, missing)
}

/// The body of a preview.
#[data]
pub struct PreviewInput {
    /// The values.
    #[field(default)]
    variables: Map<String, Value>,
}

/// A filled template.
#[data]
pub struct Preview {
    subject: String,
    body: String,
    body_html: Option<String>,
    /// Names without a value.
    missing: Vec<String>,
}

/// `POST /api/notifications/templates/{id}/preview`.
pub fn preview(Params(id): Params<Id>, input: Option<Json<PreviewInput>>) -> Result<Json<Preview>> {
    let template = entity::read::<Template>(&Pool, &id)?;
    let values = Value::Object(input.map(|Json(input)| input.variables).unwrap_or_default());
    let (words, missing) = filled(&template, &values);
    Ok(Json(Preview { subject: words.subject, body: words.text, body_html: words.html, missing }))
}

/// What a copy has of its own.
#[data]
#[derive(Default)]
pub struct CopyInput {
    #[field(min = 1, max = 200, plain)]
    name: Option<String>,
    #[field(min = 1, max = 200)]
    event_type: Option<String>,
    channel: Option<Channel>,
    #[field(min = 2, max = 35)]
    locale: Option<String>,
}

/// Copies of one template under names of their own.
const COPIES_MAX: u32 = 50;

/// `POST /api/notifications/templates/{id}/duplicate`: a copy of the organization's own. Where type, channel and language
/// are taken already, the copy gets the type `<type>.copy` and is not used until it is given a better one.
pub fn duplicate(Params(id): Params<Id>, input: Option<Json<CopyInput>>) -> Result<Created<Stored<Template>>> {
    let input = input.map(|Json(input)| input).unwrap_or_default();
    let copy = database::transaction(|transaction| {
        let original = entity::read::<Template>(transaction, &id)?;
        let mut copy = original.data;
        copy.scope = TemplateScope::Organization;
        copy.is_default = false;
        copy.name = input.name.unwrap_or_else(|| format!("{} (copy)", copy.name.chars().take(190).collect::<String>()));
        copy.channel = input.channel.unwrap_or(copy.channel);
        copy.locale = input.locale.unwrap_or(copy.locale);
        let is_named = input.event_type.is_some();
        copy.event_type = input.event_type.unwrap_or(copy.event_type);
        if !is_named {
            let original_type = copy.event_type.clone();
            let mut number = 0;
            while is_taken(transaction, &copy)? {
                number += 1;
                if number > COPIES_MAX {
                    return Err(Problem::conflict("There are too many copies of it."));
                }
                copy.enabled = false;
                let ending = if number == 1 { ".copy".to_string() } else { format!(".copy{number}") };
                copy.event_type = format!("{original_type}{ending}");
            }
        }
        entity::create(transaction, copy)
    })?;
    Template::committed(&copy);
    Ok(Created(copy))
}

fn is_taken(transaction: &Transaction, template: &Template) -> Result<bool> {
    let count = Select::<Template>::new()
        .equal("event_type", template.event_type.as_str())
        .equal("channel", template.channel)
        .equal("locale", template.locale.as_str())
        .condition("\"organization_id\" IS NOT NULL", [] as [Id; 0])
        .count(transaction)?;
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(channel: Channel, locale: &str, scope: TemplateScope, body: &str) -> Template {
        let fields = json!({"name": "n", "eventType": "task.assigned", "channel": channel, "locale": locale, "scope": scope,
            "subject": "{{title}}", "body": body});
        berth_sdk::serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn the_language_falls_back_to_english_and_the_own_words_come_first() {
        let all = [
            template(Channel::Email, "en", TemplateScope::Organization, "own"),
            template(Channel::Email, "en", TemplateScope::Global, "global"),
            template(Channel::Email, "de", TemplateScope::Global, "deutsch"),
        ];
        let body = |locale| pick(&all, Channel::Email, locale).map(|template| template.body.as_str());
        assert_eq!((body("en"), body("de-AT"), body("fr")), (Some("own"), Some("deutsch"), Some("own")));
        assert!(pick(&all, Channel::Sms, "en").is_none());
    }

    #[test]
    fn without_a_template_the_plain_words_are_sent() {
        let plain = Words { subject: "S".into(), text: "T".into(), html: None };
        assert_eq!(words(&[], Channel::Email, "en", &json!({}), &plain), plain);
        let all = [template(Channel::Email, "en", TemplateScope::Global, "Do {{title}} by {{gone}}.")];
        let filled = words(&all, Channel::Email, "en", &json!({"title": "Paint"}), &plain);
        assert_eq!((filled.subject.as_str(), filled.text.as_str()), ("Paint", "Do Paint by ."));
    }
}
