//! The levels of a chain: their order, their times and their conditions. Pure.

use std::time::Duration;

use berth_sdk::prelude::*;

use crate::kinds::Channel;

/// The longest delay, in minutes: 30 days.
const DELAY_MINUTES_MAX: i64 = 43_200;

/// Whom a level tells.
#[choice(upper)]
pub enum RecipientType {
    /// Who was told in the first place.
    Original,
    /// Everybody with a role: its id or its name.
    Role,
    /// One user.
    User,
    /// Whoever is on call: the role `On Call`, and the administrators where nobody has it.
    OnCall,
}

/// While what holds a level acts.
#[choice(upper)]
pub enum EscalateIf {
    /// Nobody has taken note.
    NotAcknowledged,
    /// What it is about is not resolved.
    NotResolved,
    /// In any case, unless somebody has taken note.
    Always,
}

/// One step of a chain.
#[data]
pub struct Level {
    /// From 1; in the order of the delays.
    #[field(min = 1, max = 20)]
    pub level: Option<i64>,
    /// After the notification was sent out.
    #[field(min = 0, max = 43_200)]
    pub delay_minutes: i64,
    /// The channels it uses.
    #[field(min = 1, max = 6)]
    pub channels: Vec<Channel>,
    /// Whom it tells.
    #[field(default = RecipientType::Original)]
    pub recipient_type: RecipientType,
    /// The role or the user.
    #[field(min = 1, max = 100)]
    pub recipient_id: Option<String>,
    /// While this holds.
    #[field(default = EscalateIf::NotAcknowledged)]
    pub escalate_if: EscalateIf,
}

impl Level {
    /// Whether it tells nobody new.
    pub fn is_for_the_recipient(&self) -> bool {
        self.recipient_type == RecipientType::Original
    }

    /// Whether it acts, given what is known.
    pub fn acts(&self, is_acknowledged: bool, is_resolved: bool) -> bool {
        !(is_acknowledged || (is_resolved && self.escalate_if == EscalateIf::NotResolved))
    }
}

/// Checks what concerns several members.
pub fn check(levels: &[Level], faults: &mut Faults) {
    for (index, level) in levels.iter().enumerate() {
        let path = format!("levels[{index}]");
        if !(0..=DELAY_MINUTES_MAX).contains(&level.delay_minutes) {
            faults.add(format!("{path}.delayMinutes"), format!("must be from 0 to {DELAY_MINUTES_MAX}"));
        }
        let needs_id = matches!(level.recipient_type, RecipientType::Role | RecipientType::User);
        if needs_id && level.recipient_id.is_none() {
            faults.add(format!("{path}.recipientId"), "is required for this recipientType");
        }
        let number = level.level.unwrap_or(0);
        if number > 0 && levels.iter().take(index).any(|other| other.level == Some(number)) {
            faults.add(format!("{path}.level"), "is there twice");
        }
    }
}

/// The levels in the order in which they act.
pub fn by_delay(levels: &[Level]) -> Vec<Level> {
    let mut ordered = levels.to_vec();
    ordered.sort_by_key(|level| (level.delay_minutes, level.level));
    ordered
}

/// The built-in chain for what is critical.
pub fn builtin() -> Vec<Level> {
    let level = |number, delay_minutes, channels: &[Channel], recipient_type| Level {
        level: Some(number),
        delay_minutes,
        channels: channels.to_vec(),
        recipient_type,
        recipient_id: None,
        escalate_if: EscalateIf::NotAcknowledged,
    };
    let everything = [Channel::InApp, Channel::Email, Channel::Push];
    vec![
        level(1, 0, &everything, RecipientType::Original),
        level(2, 5, &[Channel::Sms], RecipientType::Original),
        level(3, 10, &[Channel::Voice], RecipientType::Original),
        level(4, 15, &everything, RecipientType::OnCall),
    ]
}

/// When the level after `done` levels is due; none when there is none. What is late is due at once.
pub fn due(levels: &[Level], done: usize, sent_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let level = levels.get(done)?;
    let minutes = u64::try_from(level.delay_minutes.clamp(0, DELAY_MINUTES_MAX)).unwrap_or(0);
    Some(sent_at.plus(Duration::from_secs(minutes * 60)).max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_chain_is_the_specified_one() {
        let chain = builtin();
        let delays: Vec<i64> = chain.iter().map(|level| level.delay_minutes).collect();
        assert_eq!(delays, [0, 5, 10, 15]);
        assert_eq!(chain[1].channels, [Channel::Sms]);
        assert_eq!(chain[2].channels, [Channel::Voice]);
        assert_eq!(chain[3].recipient_type, RecipientType::OnCall);
    }

    #[test]
    fn levels_are_due_by_their_delay_and_never_in_the_past() {
        let at = |minutes: i64| Timestamp::from_millis(1_700_000_000_000 + minutes * 60_000);
        let chain = builtin();
        assert_eq!(due(&chain, 1, at(0), at(0)), Some(at(5)));
        assert_eq!(due(&chain, 2, at(0), at(30)), Some(at(30)));
        assert_eq!(due(&chain, 4, at(0), at(30)), None);
    }

    #[test]
    fn taking_note_ends_everything_and_resolving_what_waits_for_it() {
        let mut level = builtin().remove(1);
        assert!(level.acts(false, true) && !level.acts(true, false));
        level.escalate_if = EscalateIf::NotResolved;
        assert!(level.acts(false, false) && !level.acts(false, true));
        level.escalate_if = EscalateIf::Always;
        assert!(level.acts(false, true) && !level.acts(true, true));
    }

    #[test]
    fn a_level_needs_its_recipient_and_a_number_of_its_own() {
        let mut chain = builtin();
        chain[1].level = Some(1);
        chain[2].recipient_type = RecipientType::Role;
        let mut faults = Faults::default();
        check(&chain, &mut faults);
        let fields: Vec<&str> = faults.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["levels[1].level", "levels[2].recipientId"]);
    }
}
