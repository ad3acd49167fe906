//! Escalation: what happens while nobody takes note of something that matters.

pub mod levels;
pub mod run;

use berth_sdk::prelude::*;

use crate::{kinds::Criticality, notification::Notification, preference::MANAGE};
use levels::{Level, builtin};

/// Levels of one chain.
const LEVELS_MAX: usize = 20;
/// Chains that are looked at.
const CHAINS_MAX: i64 = 200;

/// Whom to tell next, and when.
#[entity(table = "notification_escalation_chains", name = "escalation chain", sort = "name")]
pub struct Chain {
    /// For people.
    #[field(min = 1, max = 200, plain)]
    pub name: String,
    /// From this criticality on.
    pub trigger_criticality: Criticality,
    /// Only these types, or patterns such as `incident.#`; empty: every type.
    #[field(default, max = 100)]
    pub trigger_event_types: Vec<String>,
    /// What happens after how long.
    #[field(min = 1, max = 20)]
    pub levels: Vec<Level>,
    /// Whether it is used.
    #[field(default = true)]
    pub is_active: bool,
}

impl Rules for Chain {
    fn check(&self, faults: &mut Faults) {
        if self.levels.len() <= LEVELS_MAX {
            levels::check(&self.levels, faults);
        }
    }

    // A chain brings what is told to one user to others as well: whoever writes one decides who reads it.
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

/// A chain that fits a notification; the built-in one has no row.
pub struct Found {
    /// The row.
    pub id: Option<Id>,
    /// By delay.
    pub levels: Vec<Level>,
}

impl Found {
    /// The level without a delay, which only names further channels.
    pub fn at_once(&self) -> Option<&Level> {
        self.levels.first().filter(|level| level.delay_minutes == 0 && level.is_for_the_recipient())
    }
}

/// The chain of a notification: the own one that names its type, then one for every type, then, for CRITICAL, the built-in
/// one. What escalates something is not escalated itself.
pub fn chain_for(row: &Notification) -> Result<Option<Found>> {
    if row.escalated_from.is_some() {
        return Ok(None);
    }
    let chains = Select::<Chain>::new().equal("is_active", true).limit(CHAINS_MAX).all(&Pool)?;
    let fits = |chain: &&Stored<Chain>| {
        let types = &chain.trigger_event_types;
        row.criticality.rank() >= chain.trigger_criticality.rank()
            && (types.is_empty() || types.iter().any(|pattern| events::matches(pattern, &row.r#type)))
    };
    // The stricter chain knows better.
    let found = chains
        .iter()
        .filter(fits)
        .max_by_key(|chain| (!chain.trigger_event_types.is_empty(), chain.trigger_criticality.rank()));
    Ok(match found {
        Some(chain) => Some(Found { id: Some(chain.id.clone()), levels: levels::by_delay(&chain.levels) }),
        None if row.criticality == Criticality::Critical => Some(Found { id: None, levels: builtin() }),
        None => None,
    })
}

/// Sets when the first level is due.
pub fn arm(row: &mut Stored<Notification>, chain: Option<&Found>, now: Timestamp) {
    let Some(chain) = chain else { return };
    row.escalation_chain_id.clone_from(&chain.id);
    let done = usize::from(chain.at_once().is_some());
    row.escalation_level = i64::try_from(done).unwrap_or(0);
    row.escalation_due_at = levels::due(&chain.levels, done, now, now);
}
