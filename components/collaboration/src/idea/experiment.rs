//! An experiment that is over says what becomes of the idea that it tried.

use berth_sdk::{http_out, prelude::*, serde_json::Value};

use super::{
    Idea, hold,
    status::{self, IdeaStatus},
};

/// The longest conclusion that is taken over, in characters.
const REASON_MAX: usize = 2_000;

/// What is read of the event.
#[data]
struct Completed {
    experiment_id: Option<Id>,
    id: Option<Id>,
    winner_variant_id: Option<Id>,
    conclusion: Option<Value>,
}

/// What is asked of an experiment.
#[data]
struct Experiment {
    #[field(default)]
    variants: Vec<Variant>,
}

#[data]
struct Variant {
    id: Id,
    is_control: bool,
}

impl Experiment {
    /// Whether it is what was there before that has won. A variant that nobody knows is something new.
    fn is_control(&self, winner: &Id) -> bool {
        self.variants.iter().any(|variant| variant.id == *winner && variant.is_control)
    }
}

fn reason(event: &Completed, has_proven: bool) -> String {
    let said = event.conclusion.as_ref().and_then(Value::as_str).map(validate::clean).filter(|text| !text.is_empty());
    let otherwise =
        if has_proven { "Something new has won the experiment." } else { "Nothing new has won the experiment." };
    said.unwrap_or_else(|| otherwise.to_string()).chars().take(REASON_MAX).collect()
}

/// Whether something else than what was there before has won; quality knows which variant that is.
fn has_proven(id: &Id, event: &Completed, is_last_attempt: bool) -> Result<bool> {
    let Some(winner) = &event.winner_variant_id else { return Ok(false) };
    match http_out::plugin("quality").get(&format!("/api/experiments/{id}")).fetch::<Experiment>() {
        Ok(experiment) => Ok(!experiment.is_control(winner)),
        Err(problem) if problem.status >= 500 && !is_last_attempt => Err(problem),
        Err(_) => Ok(true),
    }
}

/// `experiment.completed`: when something new has won the idea is approved, else it is looked at again.
pub fn completed(envelope: &Envelope) -> Result<()> {
    let event: Completed = envelope.data()?;
    let Some(experiment_id) = event.experiment_id.as_ref().or(event.id.as_ref()) else { return Ok(()) };
    let tried = |database: &dyn Executor| Select::<Idea>::new().equal("experiment_id", experiment_id).first(database);
    if tried(&Pool)?.is_none() {
        return Ok(());
    }
    let has_proven = has_proven(experiment_id, &event, envelope.is_last_attempt)?;
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        let Some(found) = tried(transaction)? else { return Ok(()) };
        let mut idea = hold(transaction, &found.id)?;
        // Somebody may have decided otherwise meanwhile.
        if idea.status != IdeaStatus::InExperiment {
            return Ok(());
        }
        let next = if has_proven { IdeaStatus::Approved } else { IdeaStatus::UnderReview };
        status::set(transaction, &mut idea, next, Some(reason(&event, has_proven)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Completed {
        Envelope::for_test("experiment.completed", text).data().unwrap()
    }

    #[test]
    fn only_something_new_that_wins_proves_an_idea() {
        let variant = |id: &str, is_control| Variant { id: id.into(), is_control };
        let experiment = Experiment { variants: vec![variant("v1", true), variant("v2", false)] };
        assert!(experiment.is_control(&"v1".into()) && !experiment.is_control(&"v2".into()));
        let id = Id::from("x1");
        assert!(!has_proven(&id, &event(r#"{"experimentId":"x1","winnerVariantId":null}"#), false).unwrap());
        // Natively nobody answers: it is asked again, but not for ever.
        let won = event(r#"{"experimentId":"x1","winnerVariantId":"v2"}"#);
        assert_eq!(has_proven(&id, &won, false).unwrap_err().status, 503);
        assert!(has_proven(&id, &won, true).unwrap());
    }

    #[test]
    fn the_conclusion_is_the_reason() {
        assert_eq!(reason(&event(r#"{"conclusion":" Too few. "}"#), false), "Too few.");
        assert_eq!(reason(&event(r#"{"conclusion":{"a":1}}"#), true), "Something new has won the experiment.");
    }
}
