//! Making something of an idea: the service that owns it makes it, called as the caller, and then the idea names it.
//!
//! Who converts says so in the idea's row first, so that two at the same moment do not make two tasks. Whoever stops in
//! the middle is in nobody's way for long.

use std::time::Duration;

use berth_sdk::{canonical, prelude::*};

use super::{
    Idea, hold,
    status::{self, IdeaStatus},
    target::{self, Conversion, Target},
};

/// How long somebody who converts keeps others from it: longer than any call takes.
const HELD_FOR: Duration = Duration::from_secs(120);
/// How often a link that loses a race is written again.
const ATTEMPTS_MAX: usize = 3;

#[data]
struct Made {
    id: Id,
}

/// `POST /api/innovation/{id}/convert`.
pub fn convert(Params(id): Params<Id>, if_match: IfMatch, Json(wish): Json<Conversion>) -> Result<Stored<Idea>> {
    let idea = entity::read::<Idea>(&Pool, &id)?;
    judge(&idea, wish.to)?;
    let (call, body) = target::call(&idea, &wish)?;
    claim(&id, wish.to, if_match)?;
    // The same wish of the same caller makes the same thing, should this one stop halfway.
    let hash: String = canonical::sha256(&body).chars().take(16).collect();
    let key = format!("idea-{id}-{}-{hash}", wish.to);
    let made: Result<Made> = call.idempotency_key(key).json(&body).fetch();
    match made {
        Ok(made) => link(&id, wish.to, &made.id),
        Err(problem) => {
            release(&id)?;
            Err(problem)
        }
    }
}

/// 409 for an idea that is closed, or has become this already.
fn judge(idea: &Idea, to: Target) -> Result<()> {
    if let Some(linked) = to.of(idea) {
        let detail = format!("The idea has been converted: {to} {linked}.");
        return Err(Problem::conflict(detail).with_code("ALREADY_CONVERTED").with("targetId", linked.as_str()));
    }
    idea.status.require_open()
}

fn claim(id: &Id, to: Target, if_match: IfMatch) -> Result<()> {
    database::transaction(|transaction| {
        let mut idea = hold(transaction, id)?;
        if_match.check(idea.version)?;
        judge(&idea, to)?;
        let now = clock::now();
        if idea.converting_since.is_some_and(|since| now.since(since) < HELD_FOR) {
            let detail = "Somebody converts the idea just now.";
            return Err(Problem::conflict(detail).with_code("CONVERSION_RUNNING"));
        }
        (idea.converting_to, idea.converting_since) = (Some(to.to_string()), Some(now));
        entity::save(transaction, &mut idea)
    })
}

fn release(id: &Id) -> Result<()> {
    database::execute(
        "UPDATE innovation_ideas SET converting_to = NULL, converting_since = NULL WHERE id = $1 AND organization_id = $2",
        params![id, auth::organization_id()?],
    )?;
    Ok(())
}

fn link(id: &Id, to: Target, made: &Id) -> Result<Stored<Idea>> {
    let mut attempt = 1;
    loop {
        let result = database::transaction(|transaction| {
            let mut idea = hold(transaction, id)?;
            (idea.converting_to, idea.converting_since) = (None, None);
            to.link(&mut idea, made.clone());
            // Somebody may have decided otherwise while it was made; what is decided stays so.
            if to == Target::Experiment && idea.status.require_open().is_ok() {
                status::set(transaction, &mut idea, IdeaStatus::InExperiment, None)?;
            } else {
                entity::save(transaction, &mut idea)?;
            }
            Ok::<_, Problem>(idea)
        });
        match result {
            Err(problem) if problem.status != 404 && attempt < ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}
