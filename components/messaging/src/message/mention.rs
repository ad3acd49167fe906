//! Mentions: named in the body, or written into the text as `<@user>`. Who does not belong is left out, with a word on it.

use std::collections::BTreeSet;

use berth_sdk::{prelude::*, validate::FieldError};

use crate::{access::Seat, participant::Participant, people};

/// Users that one message mentions; more are left out.
pub const MENTIONS_MAX: usize = 20;

/// Who is meant: those that are named, then those in the text, each once.
pub fn named(explicit: &[Id], content: &str) -> Vec<Id> {
    let mut found: Vec<Id> = Vec::new();
    let written = content.split("<@").skip(1).filter_map(|rest| rest.split_once('>')).map(|(id, _)| Id::parse(id));
    for id in explicit.iter().cloned().map(Ok).chain(written).filter_map(Result::ok) {
        if found.len() < MENTIONS_MAX && !found.contains(&id) {
            found.push(id);
        }
    }
    found
}

/// Who of these is there to be mentioned: participants, and in an open conversation every member of the organization, but in
/// one of a project only those who see that.
pub fn known(seat: &Seat, ids: &[Id]) -> Result<BTreeSet<Id>> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut known: BTreeSet<Id> = Participant::among(&Pool, &seat.conversation.id, ids)?.into_iter().collect();
    if !seat.conversation.is_private {
        let strangers: Vec<Id> = ids.iter().filter(|id| !known.contains(*id)).cloned().collect();
        known.extend(people::who_sees(seat.conversation.project_id.as_ref(), &strangers)?);
    }
    Ok(known)
}

/// 400 that names everybody who cannot see what they are asked to look at.
pub fn require_known(field: &str, ids: &[Id], known: &BTreeSet<Id>) -> Result<()> {
    let mut faults = Faults::default();
    for (index, id) in ids.iter().enumerate().filter(|(_, id)| !known.contains(*id)) {
        faults.add(format!("{field}[{index}]"), format!("{id} cannot see the conversation"));
    }
    faults.finish()
}

/// Splits those who are named into those who are mentioned and warnings about the others.
pub fn judge(ids: Vec<Id>, known: &BTreeSet<Id>) -> (Vec<Id>, Vec<FieldError>) {
    let (mentioned, strangers): (Vec<Id>, Vec<Id>) = ids.into_iter().partition(|id| known.contains(id));
    let warn = |id: Id| FieldError::new("mentions", format!("{id} cannot see the conversation and was not mentioned"));
    (mentioned, strangers.into_iter().map(warn).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};

    use super::*;

    #[test]
    fn everybody_is_meant_once() {
        let ids = named(&["u1".into()], "Hello <@u2>, <@u1>, <@not an id>, <@u3");
        assert_eq!(ids, ["u1", "u2"].map(Id::from));
    }

    #[test]
    fn strangers_are_left_out_with_a_word() {
        let (mentioned, warnings) = judge(vec![Id::from("a"), Id::from("b")], &BTreeSet::from([Id::from("b")]));
        assert_eq!((mentioned, warnings.len()), (vec![Id::from("b")], 1));
        assert!(warnings.first().unwrap().message.starts_with('a'));
    }

    #[test]
    fn who_cannot_see_it_is_named() {
        let problem = require_known("to", &["a".into(), "b".into()], &BTreeSet::from(["a".into()])).unwrap_err();
        assert_eq!((problem.status, problem.errors.first().unwrap().field.as_str()), (400, "to[1]"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_makes_more_mentions_than_allowed(text in "([<@>a-z0-9 ]{0,8}){0,200}") {
            let ids = named(&[], &text);
            assert!(ids.len() <= MENTIONS_MAX);
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        }
    }
}
