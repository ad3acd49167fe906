//! What is only in the cache: bells that say "look again", who types, who is there. Whatever is lost here costs a look at
//! the database and never a message.

use std::time::Duration;

use berth_sdk::{cache, prelude::*};

/// How long typing and presence hold.
const PRESENT_FOR: Duration = Duration::from_secs(10);
/// How long a bell stays as it is when nothing happens.
const BELL_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a signal can be read.
const SIGNAL_TTL: Duration = Duration::from_secs(15);
/// How long signals are counted on from one number.
const COUNTER_TTL: Duration = Duration::from_secs(6 * 60 * 60);
/// Signals that one look reads.
const SIGNALS_MAX: i64 = 20;
/// Rings with everything that is said anywhere in the organization.
const ORGANIZATION_BELL: &str = "bell";

/// Something that is over in a moment.
#[data]
pub struct Signal {
    /// `typing` or `presence`.
    pub kind: String,
    /// Who.
    pub user_id: Id,
    /// Until when it holds.
    pub until: Timestamp,
}

/// Somebody, just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Follows the conversation.
    pub is_online: bool,
    /// Writes in it.
    pub is_typing: bool,
}

fn bell_key(conversation_id: &Id) -> String {
    format!("bell:{conversation_id}")
}

/// Says that something has changed in a conversation; after the commit. Each ring leaves a mark of its own, so that no
/// late one can look like an early one.
pub fn ring(conversation_id: &Id) {
    cache::set_ttl(&bell_key(conversation_id), &Id::new(), BELL_TTL);
    cache::set_ttl(ORGANIZATION_BELL, &Id::new(), BELL_TTL);
}

/// The mark of a conversation's last ring; none when the cache is away.
pub fn bell(conversation_id: &Id) -> Option<Id> {
    mark(&bell_key(conversation_id))
}

/// The mark of the organization's last ring.
pub fn organization_bell() -> Option<Id> {
    mark(ORGANIZATION_BELL)
}

fn mark(key: &str) -> Option<Id> {
    if let Some(mark) = cache::get(key) {
        return Some(mark);
    }
    let made = Id::new();
    match cache::add_if_absent(key, &made, BELL_TTL) {
        Ok(true) => Some(made),
        Ok(false) => cache::get(key),
        Err(_) => None,
    }
}

fn presence_key(kind: &str, conversation_id: &Id, user_id: &Id) -> String {
    format!("{kind}:{conversation_id}:{user_id}")
}

fn counter_key(conversation_id: &Id) -> String {
    format!("signals:{conversation_id}")
}

/// Notes that somebody writes, and tells those who follow. Until when it holds.
pub fn typing(conversation_id: &Id, user_id: &Id) -> Timestamp {
    hold("typing", conversation_id, user_id);
    tell("typing", conversation_id, user_id)
}

/// Notes that somebody follows; those who follow are told when it is news.
pub fn follow(conversation_id: &Id, user_id: &Id) {
    let was_there = cache::get::<bool>(&presence_key("presence", conversation_id, user_id)).is_some();
    hold("presence", conversation_id, user_id);
    if !was_there {
        tell("presence", conversation_id, user_id);
    }
}

fn hold(kind: &str, conversation_id: &Id, user_id: &Id) {
    cache::set_ttl(&presence_key(kind, conversation_id, user_id), &true, PRESENT_FOR);
}

fn tell(kind: &str, conversation_id: &Id, user_id: &Id) -> Timestamp {
    let until = clock::now().plus(PRESENT_FOR);
    let counter = counter_key(conversation_id);
    // Without the cache nobody is told, which is fine.
    if let Ok(number) = cache::incr_by(&counter, 1, COUNTER_TTL) {
        let signal = Signal { kind: kind.to_string(), user_id: user_id.clone(), until };
        cache::set_ttl(&format!("{counter}:{number}"), &signal, SIGNAL_TTL);
    }
    until
}

/// The number of the last signal.
pub fn last(conversation_id: &Id) -> i64 {
    cache::get(&counter_key(conversation_id)).unwrap_or(0)
}

/// The signals after a number, and the number up to which they go.
pub fn after(conversation_id: &Id, number: i64) -> (Vec<Signal>, i64) {
    let last = last(conversation_id);
    if last <= number {
        // The counter may have begun anew.
        return (Vec::new(), last);
    }
    let keys: Vec<String> = ((last - SIGNALS_MAX).max(number) + 1..=last)
        .map(|number| format!("{}:{number}", counter_key(conversation_id)))
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    (cache::get_many(&keys).into_iter().flatten().collect(), last)
}

/// Who of these is there just now, in their order.
pub fn present(conversation_id: &Id, user_ids: &[&Id]) -> Vec<Present> {
    let keys: Vec<String> = ["presence", "typing"]
        .into_iter()
        .flat_map(|kind| user_ids.iter().map(move |user_id| presence_key(kind, conversation_id, user_id)))
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let held: Vec<bool> = cache::get_many::<bool>(&keys).into_iter().map(|held| held.is_some()).collect();
    let (online, typing) = held.split_at_checked(user_ids.len()).unwrap_or_default();
    online
        .iter()
        .zip(typing)
        .map(|(is_online, is_typing)| Present { is_online: *is_online, is_typing: *is_typing })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ring_is_told_from_the_one_before() {
        let id = Id::from("c1");
        let silent = bell(&id).unwrap();
        assert_eq!(bell(&id).unwrap(), silent);
        ring(&id);
        assert_ne!(bell(&id).unwrap(), silent);
    }

    #[test]
    fn signals_are_read_once_and_only_the_last_of_many() {
        let id = Id::from("c1");
        for user in 0..30 {
            typing(&id, &Id::from(format!("u{user}")));
        }
        let (signals, last) = after(&id, 0);
        assert_eq!((signals.len(), last, signals.last().unwrap().user_id.as_str()), (20, 30, "u29"));
        assert!(after(&id, last).0.is_empty());
        // A counter that began anew.
        assert_eq!(after(&id, 99).1, 30);
    }

    #[test]
    fn presence_is_told_when_it_is_news() {
        let (id, user) = (Id::from("c1"), Id::from("u1"));
        follow(&id, &user);
        follow(&id, &user);
        assert_eq!(last(&id), 1);
        let other = Id::from("u2");
        assert_eq!(present(&id, &[&other, &user]), [Present::default(), Present { is_online: true, is_typing: false }]);
    }
}
