//! Reactions: a toggle for each user and sign.

use std::collections::BTreeMap;

use berth_sdk::prelude::*;

use super::{Message, change};

/// Different signs on one message.
const SIGNS_MAX: usize = 20;
/// Reactions on one message.
const REACTIONS_MAX: usize = 500;

/// The body of `POST /api/messaging/messages/{id}/reactions`.
#[data]
pub struct Reaction {
    /// An emoji, or a word such as `thumbs_up`.
    #[field(min = 1, max = 32, plain)]
    emoji: String,
}

/// `POST /api/messaging/messages/{id}/reactions`.
pub fn toggle(Params(id): Params<Id>, Json(input): Json<Reaction>) -> Result<Stored<Message>> {
    let user_id = auth::user_id()?;
    change::change(&id, |change| {
        change.seat.require_open()?;
        change.row.require_alive()?;
        flip(&mut change.row.reactions, &input.emoji, &user_id)?;
        change.announce("messaging.message.updated", json!({ "reaction": input.emoji, "userId": user_id }))
    })
}

/// Adds or takes back; 422 when there are too many already.
fn flip(reactions: &mut BTreeMap<String, Vec<Id>>, emoji: &str, user_id: &Id) -> Result<()> {
    let total: usize = reactions.values().map(Vec::len).sum();
    let signs = reactions.len();
    match reactions.get_mut(emoji) {
        Some(users) if users.contains(user_id) => {
            users.retain(|user| user != user_id);
            if users.is_empty() {
                reactions.remove(emoji);
            }
            return Ok(());
        }
        _ if total >= REACTIONS_MAX => {}
        Some(users) => {
            users.push(user_id.clone());
            return Ok(());
        }
        None if signs < SIGNS_MAX => {
            reactions.insert(emoji.to_string(), vec![user_id.clone()]);
            return Ok(());
        }
        None => {}
    }
    let detail = format!("A message takes {SIGNS_MAX} different reactions and {REACTIONS_MAX} in all.");
    Err(Problem::unprocessable(detail))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    #[test]
    fn the_second_time_takes_it_back() {
        let mut reactions = BTreeMap::new();
        flip(&mut reactions, "👍", &"u1".into()).unwrap();
        flip(&mut reactions, "👍", &"u2".into()).unwrap();
        flip(&mut reactions, "👍", &"u1".into()).unwrap();
        assert_eq!(reactions.get("👍").unwrap(), &[Id::from("u2")]);
        flip(&mut reactions, "👍", &"u2".into()).unwrap();
        assert!(reactions.is_empty());
    }

    #[test]
    fn there_is_an_end_to_signs() {
        let mut reactions = BTreeMap::new();
        for sign in 0..SIGNS_MAX {
            flip(&mut reactions, &sign.to_string(), &"u1".into()).unwrap();
        }
        assert_eq!(flip(&mut reactions, "one more", &"u1".into()).unwrap_err().status, 422);
        flip(&mut reactions, "3", &"u2".into()).unwrap();
    }

    proptest! {
        #[test]
        fn nobody_reacts_twice_in_the_same_way(flips in prop::collection::vec((any::<u8>(), 0_u8..6), 0..300)) {
            let mut reactions = BTreeMap::new();
            for (sign, user) in flips {
                let _ = flip(&mut reactions, &(sign % 30).to_string(), &Id::from(user.to_string()));
            }
            assert!(reactions.len() <= SIGNS_MAX);
            for users in reactions.values() {
                let once: std::collections::BTreeSet<_> = users.iter().collect();
                assert!(!users.is_empty() && once.len() == users.len());
            }
        }
    }
}
