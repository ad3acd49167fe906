//! Providers: what carries messages out, in the order in which they are tried.

pub mod failover;
pub mod send;

use berth_sdk::{
    prelude::*,
    serde_json::{Map, Value},
    types::Health,
};

use crate::{channel::Settings, egress, kinds::Channel, preference::MANAGE, template::Words};
use send::Parcel;

/// Providers of one channel that are tried.
const PROVIDERS_MAX: i64 = 20;
/// The setting that lets e-mail go over the host's own server without a provider row.
const EMAIL_BY_DEFAULT: &str = "email_by_default";

/// Whose it is.
#[choice(upper)]
pub enum ProviderScope {
    /// Everybody's; set up by the platform.
    Global,
    /// One organization's.
    Organization,
}

/// A provider.
#[entity(table = "notification_providers", name = "provider", global, sort = "priority")]
pub struct Provider {
    /// `smtp`, `sendgrid`, `ses`, `twilio`, `fcm`, or `http` for anything that takes JSON.
    #[field(min = 1, max = 50, filter)]
    pub code: String,
    /// What it carries.
    pub channel: Channel,
    /// Whose it is.
    #[field(default = ProviderScope::Organization, immutable)]
    pub scope: ProviderScope,
    /// The secret with its credentials; the host puts them in.
    pub secret_id: Option<Id>,
    /// What it needs besides: `from`, `url`, `baseUrl`, `accountSid`, `projectId`, `costMicro`.
    #[field(default)]
    pub config: Map<String, Value>,
    /// The smallest is tried first.
    #[field(default = 100, min = 0, max = 10_000)]
    pub priority: i64,
    /// Whether it is used.
    #[field(default = true)]
    pub is_active: bool,
    /// Of two with one priority it is tried first.
    #[field(default = false)]
    pub is_default: bool,
    /// How it did lately.
    #[field(readonly, default = Health::Unknown)]
    pub health: Health,
    /// Uses a minute.
    #[field(min = 1, max = 1_000_000)]
    pub rate_limit: Option<i64>,
    /// Uses a day.
    #[field(min = 1, max = 100_000_000)]
    pub daily_limit: Option<i64>,
    /// Failures since it last worked.
    #[field(readonly, hidden, default = 0)]
    pub failure_count: i64,
}

impl Rules for Provider {
    fn check(&self, faults: &mut Faults) {
        self.code_check(faults);
        for name in ["url", "baseUrl"] {
            if let Some(value) = self.config.get(name) {
                let verdict = value.as_str().map_or(Err("must be an http or https address".into()), validate::url);
                faults.check(&format!("config.{name}"), verdict);
                if value.as_str().is_some_and(egress::is_internal) {
                    faults.add(format!("config.{name}"), "must not be an address of this host");
                }
            }
        }
        if self.config.get("costMicro").is_some_and(|cost| cost.as_i64().is_none_or(|cost| cost < 0)) {
            faults.add("config.costMicro", "must be a whole number of micro-cents");
        }
        // What looks like a credential belongs into a secret, and never into a row that can be read.
        for name in self.config.keys() {
            let name_lower = name.to_lowercase();
            if ["password", "token", "apikey", "api_key", "secret"].iter().any(|word| name_lower.contains(word)) {
                faults
                    .add(format!("config.{name}"), "must not hold credentials; store a secret and name it in secretId");
            }
        }
    }

    fn before_create(&mut self, _: &Transaction) -> Result<()> {
        auth::require(MANAGE)
    }

    fn before_update(&mut self, _: &Stored<Self>, _: &Transaction) -> Result<()> {
        auth::require(MANAGE)
    }

    fn before_delete(_: &Stored<Self>, _: &Transaction) -> Result<()> {
        auth::require(MANAGE)
    }
}

impl Provider {
    /// Its code in lower case.
    pub fn kind(&self) -> String {
        self.code.to_lowercase()
    }

    /// A text of its configuration.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.config.get(name).and_then(Value::as_str)
    }

    fn code_check(&self, faults: &mut Faults) {
        let carries: &[Channel] = match self.kind().as_str() {
            "smtp" | "sendgrid" | "ses" => &[Channel::Email],
            "twilio" => &[Channel::Sms, Channel::Whatsapp, Channel::Voice],
            "fcm" => &[Channel::Push],
            "http" => &[Channel::Email, Channel::Push, Channel::Sms, Channel::Whatsapp, Channel::Voice],
            _ => return faults.add("code", "must be one of smtp, sendgrid, ses, twilio, fcm, http"),
        };
        if !carries.contains(&self.channel) {
            faults.add("channel", format!("{} does not carry {}", self.code, self.channel));
        }
        let needed: &[&str] = match self.kind().as_str() {
            "http" => &["url"],
            "sendgrid" => &["from"],
            "twilio" => &["accountSid", "from"],
            "fcm" => &["projectId"],
            _ => &[],
        };
        for name in needed {
            if self.text(name).is_none_or(str::is_empty) {
                faults.add(format!("config.{name}"), "is required for this provider");
            }
        }
    }
}

/// The active providers of a channel, in the order in which they are tried: those in good health first.
pub fn of_channel(channel: Channel) -> Result<Vec<Stored<Provider>>> {
    let mut providers = Select::<Provider>::new()
        .equal("channel", channel)
        .equal("is_active", true)
        .sort("priority")
        .limit(PROVIDERS_MAX)
        .all(&Pool)?;
    providers.sort_by_key(|provider| order(provider));
    Ok(providers)
}

fn order(provider: &Provider) -> (bool, i64, bool) {
    (provider.health == Health::Unhealthy, provider.priority, !provider.is_default)
}

/// The channels that something can be sent through.
pub fn available(settings: &Settings) -> Result<Vec<Channel>> {
    let providers = Select::<Provider>::new().equal("is_active", true).limit(500).all(&Pool)?;
    let has = |channel: Channel| providers.iter().any(|provider| provider.channel == channel);
    let fits = |channel: Channel| match channel {
        Channel::InApp => true,
        Channel::Email => has(channel) || config::get_or(EMAIL_BY_DEFAULT, false),
        _ => has(channel),
    };
    Ok(Channel::ALL.iter().copied().filter(|channel| fits(*channel) && settings.is_enabled(*channel)).collect())
}

/// The body of a test.
#[data]
#[derive(Default)]
pub struct TestInput {
    /// Where it goes; the caller's own address for e-mail.
    #[field(min = 1, max = 500)]
    to: Option<String>,
}

/// How a test went.
#[data]
pub struct TestResult {
    /// Whether the provider took it.
    pub success: bool,
    /// What went wrong, as a code.
    pub code: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// What the provider calls it.
    pub message_id: Option<String>,
}

/// `POST /api/notifications/providers/{id}/test`.
pub fn test(Params(id): Params<Id>, input: Option<Json<TestInput>>) -> Result<Json<TestResult>> {
    let provider = entity::read::<Provider>(&Pool, &id)?;
    let input = input.map(|Json(input)| input).unwrap_or_default();
    let own = auth::principal().email.filter(|_| provider.channel == Channel::Email);
    let to = input.to.or(own).ok_or_else(|| Problem::field("to", "is required for this channel"))?;
    if provider.channel == Channel::Email {
        validate::email(&to).map_err(|message| Problem::field("to", message))?;
    }
    let parcel = Parcel {
        channel: provider.channel,
        to,
        words: Words { subject: "Test".into(), text: "This is a test of a notification provider.".into(), html: None },
        reference: Id::new(),
        event_type: "notification.test".into(),
    };
    let result = send::through(&provider, &parcel);
    failover::note(&provider.id, result.is_ok())?;
    Ok(Json(match result {
        Ok(receipt) => TestResult { success: true, code: None, error: None, message_id: receipt.message_id },
        Err(failure) => TestResult {
            success: false,
            code: Some(failure.code.to_string()),
            error: Some(failure.error),
            message_id: None,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(fields: Value) -> Vec<String> {
        let provider: Provider = berth_sdk::serde_json::from_value(fields).unwrap();
        let mut faults = Faults::default();
        provider.check(&mut faults);
        faults.errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn a_provider_says_what_it_needs_and_holds_no_credentials() {
        assert!(faults(json!({"code": "SMTP", "channel": "EMAIL"})).is_empty());
        assert_eq!(faults(json!({"code": "pigeon", "channel": "EMAIL"})), ["code"]);
        assert_eq!(faults(json!({"code": "fcm", "channel": "SMS", "config": {"projectId": "p"}})), ["channel"]);
        assert_eq!(faults(json!({"code": "http", "channel": "SMS"})), ["config.url"]);
        assert_eq!(
            faults(json!({"code": "http", "channel": "SMS", "config": {"url": "ftp://x", "apiToken": "t"}})),
            ["config.url", "config.apiToken"]
        );
        // Another plugin would be called with the rights of whoever is told.
        assert_eq!(
            faults(json!({"code": "http", "channel": "SMS", "config": {"url": "http://Host.internal/api/users"}})),
            ["config.url"]
        );
    }

    #[test]
    fn the_order_goes_by_health_then_priority() {
        let provider = |health: &str, priority, is_default| -> Provider {
            let fields = json!({"code": "smtp", "channel": "EMAIL", "health": health, "priority": priority, "isDefault": is_default});
            berth_sdk::serde_json::from_value(fields).unwrap()
        };
        let mut all = [
            provider("UNHEALTHY", 1, true),
            provider("HEALTHY", 5, false),
            provider("UNKNOWN", 5, true),
            provider("DEGRADED", 2, false),
        ];
        all.sort_by_key(order);
        let priorities: Vec<(i64, bool)> =
            all.iter().map(|provider| (provider.priority, provider.is_default)).collect();
        assert_eq!(priorities, [(2, false), (5, true), (5, false), (1, true)]);
    }
}
