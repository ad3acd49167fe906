//! The closed sets that everything here speaks of: channels, categories, criticality, and their order.

use berth_sdk::prelude::*;

/// A way to reach somebody.
#[choice(upper)]
pub enum Channel {
    /// The inbox.
    InApp,
    /// E-mail.
    Email,
    /// A message to a device.
    Push,
    /// A text message.
    Sms,
    /// A WhatsApp message.
    Whatsapp,
    /// A call that reads it out.
    Voice,
}

/// What a notification is about.
#[choice(upper)]
pub enum Category {
    /// Plans, projects, tasks, executions.
    ProjectManagement,
    /// Reviews and teamwork.
    Collaboration,
    /// What the assistant does.
    AiPlanning,
    /// Components and servers.
    SystemAdmin,
    /// Incidents.
    Incidents,
    /// Meetings.
    Calendar,
    /// Accounts and secrets.
    Security,
    /// Quotas and budgets.
    Billing,
}

/// How much it matters.
#[choice(upper)]
pub enum Criticality {
    /// Whenever.
    Low,
    /// Today.
    Medium,
    /// Soon.
    High,
    /// Now.
    Critical,
}

impl Criticality {
    /// For comparing: a greater one matters more.
    pub const fn rank(self) -> u8 {
        self as u8
    }

    /// The channels of a notification that names none.
    pub const fn channels(self) -> &'static [Channel] {
        match self {
            Self::Low => &[Channel::InApp],
            Self::Medium => &[Channel::InApp, Channel::Email],
            Self::High => &[Channel::InApp, Channel::Email, Channel::Push],
            Self::Critical => &[Channel::InApp, Channel::Email, Channel::Push, Channel::Sms],
        }
    }
}

/// How often a digest leaves.
#[choice(upper)]
pub enum Frequency {
    /// An hour after the first entry.
    Hourly,
    /// A day after it.
    Daily,
    /// A week after it.
    Weekly,
}

/// Reads a channel by its text, in any case.
pub fn channel(text: &str) -> Option<Channel> {
    Channel::parse(&text.to_uppercase())
}
