//! Which preferences hold for one notification: pure.
//!
//! Narrower scopes beat broader ones (GLOBAL, ORGANIZATION, TEAM, PROJECT, USER), and each of these layers whole: an
//! event override beats a category, and a category beats the scopes' defaults.

use std::collections::BTreeMap;

use berth_sdk::{events::matches, prelude::*, schemars, serde};

use super::Preference;
use crate::kinds::{Category, Channel, Criticality, Frequency};

/// What somebody wants of one channel; what is absent is inherited.
#[data]
#[derive(Default)]
pub struct ChannelPreference {
    /// Whether it may be used at all.
    pub enabled: Option<bool>,
    /// Only while the user has no open stream.
    pub only_when_offline: Option<bool>,
    /// Collected: `HOURLY`, `DAILY` or `WEEKLY`; `true` is daily, `false` is at once.
    pub digest: Option<Digest>,
    /// Where it goes: a telephone number or a device's token. E-mail always goes to the account's address.
    #[field(max = 500)]
    pub address: Option<String>,
}

/// How a channel's notifications are collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "berth_sdk::serde", untagged)]
#[schemars(crate = "berth_sdk::schemars")]
pub enum Digest {
    /// Daily, or not at all.
    Switch(bool),
    /// This often.
    Every(Frequency),
}

impl validate::Tidy for Digest {}

impl Digest {
    /// How often, or not at all.
    pub const fn frequency(self) -> Option<Frequency> {
        match self {
            Self::Switch(true) => Some(Frequency::Daily),
            Self::Switch(false) => None,
            Self::Every(frequency) => Some(frequency),
        }
    }
}

/// What somebody wants of a category or an event type.
#[data]
#[derive(Default)]
pub struct Override {
    /// False: nothing of it.
    pub enabled: Option<bool>,
    /// By channel.
    #[field(default)]
    pub channels: BTreeMap<String, ChannelPreference>,
    /// What matters less is left out.
    pub min_criticality: Option<Criticality>,
}

/// What holds in the end.
#[data]
pub struct Effective {
    /// False: nothing of this category or type is wanted.
    pub enabled: bool,
    /// By channel; a channel without `enabled` follows the criticality.
    pub channels: BTreeMap<String, ChannelPreference>,
    /// What matters less is left out.
    pub min_criticality: Criticality,
    /// As in `22:00`, local time.
    pub quiet_hours_start: Option<String>,
    /// As in `07:00`, local time.
    pub quiet_hours_end: Option<String>,
    /// IANA name.
    pub timezone: String,
    /// The language of the texts.
    pub locale: String,
    /// Whole quiet days, 0 for Sunday.
    pub quiet_days: Vec<i64>,
    /// Whether CRITICAL passes all of that.
    pub allow_critical: bool,
    /// Nothing before this moment.
    pub dnd_until: Option<Timestamp>,
}

impl Effective {
    /// What is wanted of a channel.
    pub fn of(&self, channel: Channel) -> ChannelPreference {
        self.channels.get(channel.as_str()).cloned().unwrap_or_default()
    }
}

/// What holds for an event type; `layers` go from the broadest scope to the narrowest.
pub fn resolve(layers: &[&Preference], event_type: &str, category: Category) -> Effective {
    let narrowest_first = || layers.iter().rev();
    let mut channels = BTreeMap::new();
    let mut enabled = true;
    let mut min_criticality = narrowest_first().find_map(|layer| layer.min_criticality);
    for layer in layers {
        merge(&mut channels, &layer.channels);
    }
    let categories = layers.iter().filter_map(|layer| layer.categories.get(category.as_str()));
    let types = layers.iter().filter_map(|layer| best_match(&layer.event_overrides, event_type));
    for wish in categories.chain(types) {
        merge(&mut channels, &wish.channels);
        enabled = wish.enabled.unwrap_or(enabled);
        min_criticality = wish.min_criticality.or(min_criticality);
    }
    // Start and end belong together: one scope says both.
    let quiet = narrowest_first().find(|layer| layer.quiet_hours_start.is_some() && layer.quiet_hours_end.is_some());
    Effective {
        enabled,
        channels,
        min_criticality: min_criticality.unwrap_or(Criticality::Low),
        quiet_hours_start: quiet.and_then(|layer| layer.quiet_hours_start.clone()),
        quiet_hours_end: quiet.and_then(|layer| layer.quiet_hours_end.clone()),
        timezone: narrowest_first().find_map(|layer| layer.timezone.clone()).unwrap_or_else(|| "UTC".into()),
        locale: narrowest_first().find_map(|layer| layer.locale.clone()).unwrap_or_else(|| "en".into()),
        quiet_days: narrowest_first().find_map(|layer| layer.quiet_days.clone()).unwrap_or_default(),
        allow_critical: narrowest_first().find_map(|layer| layer.allow_critical).unwrap_or(true),
        dnd_until: narrowest_first().find_map(|layer| layer.dnd_until),
    }
}

/// The override of a type: its own, or that of the longest pattern that matches.
fn best_match<'layer>(overrides: &'layer BTreeMap<String, Override>, event_type: &str) -> Option<&'layer Override> {
    overrides.get(event_type).or_else(|| {
        let fitting = overrides.iter().filter(|(pattern, _)| matches(pattern, event_type));
        fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, wish)| wish)
    })
}

fn merge(into: &mut BTreeMap<String, ChannelPreference>, from: &BTreeMap<String, ChannelPreference>) {
    for (name, wish) in from {
        let held = into.entry(name.clone()).or_default();
        held.enabled = wish.enabled.or(held.enabled);
        held.only_when_offline = wish.only_when_offline.or(held.only_when_offline);
        held.digest = wish.digest.or(held.digest);
        if wish.address.is_some() {
            held.address.clone_from(&wish.address);
        }
    }
}

/// What speaks for and against the channels of one notification.
pub struct Choice<'a> {
    /// What the user wants.
    pub wishes: &'a Effective,
    /// How much it matters.
    pub criticality: Criticality,
    /// The channels the sender asks for; none: by criticality.
    pub requested: &'a [Channel],
    /// Whether the user looks at the inbox just now.
    pub is_online: bool,
    /// The channels that something can be sent through.
    pub available: &'a [Channel],
}

/// The channels to use, the inbox first. The inbox is part of it unless the user has switched it off; what the sender or
/// the user asks for is tried even where nothing is set up for it, so that the failure is seen.
pub fn choose(choice: &Choice<'_>) -> Vec<Channel> {
    let Choice { wishes, criticality, requested, is_online, available } = *choice;
    let wants = |channel: Channel| {
        let wish = wishes.of(channel);
        if wish.enabled == Some(false) {
            return false;
        }
        if channel == Channel::InApp {
            return true;
        }
        if is_online && wish.only_when_offline == Some(true) {
            return false;
        }
        match (requested.is_empty(), wish.enabled) {
            (false, _) => requested.contains(&channel),
            (true, Some(enabled)) => enabled,
            (true, None) => criticality.channels().contains(&channel) && available.contains(&channel),
        }
    };
    Channel::ALL.iter().copied().filter(|channel| wants(*channel)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer(fields: berth_sdk::serde_json::Value) -> Preference {
        let mut whole = json!({"scope": "USER"});
        for (name, value) in fields.as_object().unwrap() {
            whole[name] = value.clone();
        }
        berth_sdk::serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_narrower_scope_beats_a_broader_one_member_by_member() {
        let organization =
            layer(json!({"channels": {"EMAIL": {"enabled": false, "digest": "DAILY"}}, "minCriticality": "HIGH"}));
        let user = layer(json!({"channels": {"EMAIL": {"enabled": true}}, "timezone": "Europe/Berlin"}));
        let effective = resolve(&[&organization, &user], "task.assigned", Category::ProjectManagement);
        let email = effective.of(Channel::Email);
        assert_eq!((email.enabled, email.digest.and_then(Digest::frequency)), (Some(true), Some(Frequency::Daily)));
        assert_eq!((effective.min_criticality, effective.timezone.as_str()), (Criticality::High, "Europe/Berlin"));
        assert!(effective.allow_critical);
    }

    #[test]
    fn an_event_override_beats_a_category_and_a_category_the_default() {
        let wishes = layer(json!({
            "channels": {"EMAIL": {"enabled": false}},
            "categories": {"INCIDENTS": {"channels": {"EMAIL": {"enabled": true}}}},
            "eventOverrides": {"incident.#": {"minCriticality": "HIGH"}, "incident.updated": {"enabled": false}},
        }));
        let of = |kind| resolve(&[&wishes], kind, Category::Incidents);
        assert_eq!(of("incident.created").of(Channel::Email).enabled, Some(true));
        assert_eq!(of("incident.created").min_criticality, Criticality::High);
        assert!(of("incident.created").enabled && !of("incident.updated").enabled);
        let other = resolve(&[&wishes], "task.assigned", Category::ProjectManagement);
        assert_eq!((other.of(Channel::Email).enabled, other.min_criticality), (Some(false), Criticality::Low));
        // The organization's word on a type is beaten by the user's own word on it, and not by the user's default.
        let organization =
            layer(json!({"eventOverrides": {"secret.expiring": {"channels": {"EMAIL": {"enabled": true}}}}}));
        let effective = resolve(&[&organization, &wishes], "secret.expiring", Category::Security);
        assert_eq!(effective.of(Channel::Email).enabled, Some(true));
    }

    #[test]
    fn quiet_hours_come_whole_from_one_scope() {
        let organization = layer(json!({"quietHoursStart": "22:00", "quietHoursEnd": "07:00"}));
        let user = layer(json!({"quietHoursStart": "20:00"}));
        let effective = resolve(&[&organization, &user], "task.assigned", Category::ProjectManagement);
        assert_eq!(effective.quiet_hours_start.as_deref(), Some("22:00"));
    }

    #[test]
    fn channels_follow_criticality_requests_presence_and_what_is_there() {
        let none = resolve(&[], "x", Category::Calendar);
        let pick = |wishes: &Effective, criticality, requested: &[Channel], is_online| {
            choose(&Choice { wishes, criticality, requested, is_online, available: &[Channel::Email] })
        };
        assert_eq!(pick(&none, Criticality::Low, &[], false), [Channel::InApp]);
        assert_eq!(pick(&none, Criticality::Critical, &[], false), [Channel::InApp, Channel::Email]);
        assert_eq!(pick(&none, Criticality::Low, &[Channel::Sms], false), [Channel::InApp, Channel::Sms]);
        let shy = layer(json!({"channels": {"EMAIL": {"onlyWhenOffline": true}, "IN_APP": {"enabled": false}}}));
        let shy = resolve(&[&shy], "x", Category::Calendar);
        assert_eq!(pick(&shy, Criticality::High, &[], true), []);
        assert_eq!(pick(&shy, Criticality::High, &[Channel::Email], false), [Channel::Email]);
    }

    proptest! {
        /// Whatever the layers say: a scope that says nothing changes nothing, and the narrowest word counts.
        #[test]
        fn an_empty_scope_changes_nothing(enabled in proptest::option::of(any::<bool>()), minimum in 0_usize..4) {
            let wish = layer(json!({"channels": {"EMAIL": {"enabled": enabled}}, "minCriticality": Criticality::ALL[minimum].as_str()}));
            let silent = layer(json!({}));
            let alone = resolve(&[&wish], "task.overdue", Category::ProjectManagement);
            prop_assert_eq!(&alone, &resolve(&[&silent, &wish, &silent], "task.overdue", Category::ProjectManagement));
            prop_assert_eq!(alone.of(Channel::Email).enabled, enabled);
            prop_assert_eq!(alone.min_criticality, Criticality::ALL[minimum]);
        }
    }
}
