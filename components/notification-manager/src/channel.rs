//! What an organization says of each channel: whether it is used, and which channels stand in for it.

use berth_sdk::prelude::*;

use crate::{kinds, kinds::Channel, preference::MANAGE, provider};

/// Channels that stand in for one.
const FALLBACK_MAX: usize = 5;
/// How often a write that met another one is tried.
const ATTEMPTS_MAX: u32 = 3;

/// The settings of one channel.
#[entity(table = "notification_channels", name = "channel", sort = "channel")]
pub struct ChannelSettings {
    /// The channel.
    #[field(immutable)]
    pub channel: Channel,
    /// Whether it is used at all.
    #[field(default = true)]
    pub enabled: bool,
    /// What stands in for it when all its providers have failed, in this order.
    #[field(default)]
    pub fallback: Vec<Channel>,
}

impl Rules for ChannelSettings {
    fn check(&self, faults: &mut Faults) {
        if self.fallback.contains(&self.channel) {
            faults.add("fallback", "must not hold the channel itself");
        }
        if self.fallback.len() > FALLBACK_MAX {
            faults.add("fallback", format!("must have at most {FALLBACK_MAX} entries"));
        }
        if self.channel == Channel::InApp && !self.enabled {
            faults.add("enabled", "cannot be false for the inbox; users switch it off for themselves");
        }
    }
}

impl ChannelSettings {
    fn standard(channel: Channel) -> Self {
        let fallback = match channel {
            Channel::InApp | Channel::Email => vec![],
            Channel::Push | Channel::Sms => vec![Channel::Email],
            Channel::Whatsapp | Channel::Voice => vec![Channel::Sms, Channel::Email],
        };
        Self { channel, enabled: true, fallback }
    }
}

/// The settings of every channel that has been changed.
pub struct Settings(Vec<ChannelSettings>);

impl Settings {
    /// Reads them.
    pub fn all() -> Result<Self> {
        let rows = Select::<ChannelSettings>::new().limit(20).all(&Pool)?;
        Ok(Self(rows.into_iter().map(|row| row.data).collect()))
    }

    /// Whether a channel is used.
    pub fn is_enabled(&self, channel: Channel) -> bool {
        self.0.iter().find(|settings| settings.channel == channel).is_none_or(|settings| settings.enabled)
    }

    /// What stands in for a channel.
    pub fn fallback(&self, channel: Channel) -> Vec<Channel> {
        let held = self.0.iter().find(|settings| settings.channel == channel);
        held.map_or_else(|| ChannelSettings::standard(channel).fallback, |settings| settings.fallback.clone())
    }
}

/// A channel, as it is shown.
#[data]
pub struct ChannelView {
    channel: Channel,
    enabled: bool,
    fallback: Vec<Channel>,
    /// Whether something can be sent through it at present.
    is_available: bool,
    /// The version, 0 while nothing was changed.
    version: i64,
}

/// What can be changed.
#[data]
pub struct ChannelInput {
    enabled: Option<bool>,
    #[field(max = 5)]
    fallback: Option<Vec<Channel>>,
}

fn named(name: &str) -> Result<Channel> {
    kinds::channel(name).ok_or_else(|| Problem::missing("channel"))
}

fn find(database: &dyn Executor, channel: Channel) -> Result<Option<Stored<ChannelSettings>>> {
    Select::<ChannelSettings>::new().equal("channel", channel).first(database)
}

fn view(channel: Channel, row: Option<&Stored<ChannelSettings>>) -> Result<ChannelView> {
    let settings = row.map_or_else(|| ChannelSettings::standard(channel), |row| row.data.clone());
    Ok(ChannelView {
        channel,
        enabled: settings.enabled,
        fallback: settings.fallback,
        is_available: provider::available(&Settings::all()?)?.contains(&channel),
        version: row.map_or(0, |row| row.version),
    })
}

/// `GET /api/notifications/channels/{channel}`.
pub fn read(Params(name): Params<Id>) -> Result<Json<ChannelView>> {
    let channel = named(&name)?;
    Ok(Json(view(channel, find(&Pool, channel)?.as_ref())?))
}

/// `PUT /api/notifications/channels/{channel}`.
pub fn change(
    Params(name): Params<Id>,
    if_match: IfMatch,
    Json(input): Json<ChannelInput>,
) -> Result<Json<ChannelView>> {
    auth::require(MANAGE)?;
    let channel = named(&name)?;
    let mut attempt = 1;
    let row = loop {
        let result = database::transaction(|transaction| match find(transaction, channel)? {
            Some(row) => {
                let mut patch = berth_sdk::serde_json::Map::new();
                patch.extend(input.enabled.map(|enabled| ("enabled".to_string(), json!(enabled))));
                patch.extend(input.fallback.as_ref().map(|fallback| ("fallback".to_string(), json!(fallback))));
                entity::update::<ChannelSettings>(transaction, &row.id, &patch, if_match)
            }
            None => {
                let mut settings = ChannelSettings::standard(channel);
                settings.enabled = input.enabled.unwrap_or(settings.enabled);
                settings.fallback = input.fallback.clone().unwrap_or(settings.fallback);
                entity::create(transaction, settings)
            }
        });
        match result {
            Err(problem) if problem.status == 409 && if_match.0.is_none() && attempt < ATTEMPTS_MAX => attempt += 1,
            result => break result?,
        }
    };
    Ok(Json(view(channel, Some(&row))?))
}
