//! A review that is asked for offers a session: whoever asks drives, whoever is asked navigates, when they both like. It
//! has no time yet, and so it is in nobody's calendar.

use berth_sdk::prelude::*;

use crate::{
    invite,
    session::{Session, Status, held::Held},
};

/// Where it is held which reviews are being offered.
pub const HOLDS: &str = "pairing_holds";
/// The longest title, in characters.
const TITLE_MAX: usize = 200;

/// What is read of the event.
#[data]
struct Requested {
    review_id: Option<Id>,
    id: Option<Id>,
    project_id: Option<Id>,
    title: Option<String>,
    requested_by: Option<Id>,
    assigned_to: Option<Id>,
}

impl Requested {
    fn title(&self) -> String {
        let name = self.title.as_deref().unwrap_or_default();
        validate::clean_plain(&format!("Review: {name}")).chars().take(TITLE_MAX).collect()
    }

    /// Nobody reviews with themselves.
    fn navigator(&self) -> Option<Id> {
        self.assigned_to.clone().filter(|id| Some(id) != self.requested_by.as_ref())
    }
}

/// `review.requested`. Whoever is asked instead takes the place in the same offer.
pub fn offer(envelope: &Envelope) -> Result<()> {
    let requested: Requested = envelope.data()?;
    let Some(review_id) = requested.review_id.clone().or_else(|| requested.id.clone()) else { return Ok(()) };
    database::transaction(|transaction| {
        if !transaction.once(&envelope.id)? {
            return Ok(());
        }
        // Of two messages about one review the later one finds the offer of the other.
        transaction.hold(HOLDS, &format!("review:{review_id}"))?;
        let offered = Select::<Session>::new().equal("review_id", &review_id).equal("status", Status::Scheduled);
        let held = offered.first(transaction)?.map(|offer| Held::take(transaction, &offer.id)).transpose()?;
        // It may have begun while it was waited for: then it is no offer any more.
        match held.filter(|held| held.session.status == Status::Scheduled) {
            Some(mut held) => {
                let before = held.session.data.clone();
                held.session.navigator_id = requested.navigator();
                let session = json!({ "navigatorId": held.session.navigator_id });
                held.note("session.updated", &json!({ "session": session }))?;
                invite::ask(transaction, Some(&before), &held.session)?;
                held.keep().map(|_| ())
            }
            None => {
                let offer = entity::create(transaction, session(&requested, review_id))?;
                invite::ask(transaction, None, &offer)
            }
        }
    })
}

fn session(requested: &Requested, review_id: Id) -> Session {
    Session {
        project_id: requested.project_id.clone(),
        driver_id: requested.requested_by.clone(),
        navigator_id: requested.navigator(),
        review_id: Some(review_id),
        ..Session::titled(requested.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_drives_and_whoever_is_asked_navigates() {
        let text =
            r#"{"reviewId":"r1","title":"The <b>quay</b>","requestedBy":"u1","assignedTo":"u2","projectId":"p1"}"#;
        let requested: Requested = Envelope::for_test("review.requested", text).data().unwrap();
        let offer = session(&requested, "r1".into());
        assert_eq!((offer.driver_id, offer.navigator_id), (Some("u1".into()), Some("u2".into())));
        assert_eq!((offer.title.as_str(), offer.scheduled_at), ("Review: The bquay/b", None));
        let alone: Requested =
            Envelope::for_test("review.requested", r#"{"requestedBy":"u1","assignedTo":"u1"}"#).data().unwrap();
        assert_eq!(alone.navigator(), None);
    }
}
