//! One message through the providers of its channel, one after another, until one takes it.

use std::time::Duration;

use berth_sdk::prelude::*;

use super::{
    Provider, of_channel,
    send::{self, Failure, FailureKind, Parcel, Receipt},
};
use crate::{kinds::Channel, limits};

/// Failures in a row after which a provider is tried last.
const FAILURES_UNHEALTHY: i64 = 5;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A provider has it.
    Taken(Receipt),
    /// The address does not take it.
    Refused(String),
    /// Nobody took it.
    Failed {
        /// What the last one said.
        error: String,
        /// Whether trying again may help.
        may_pass: bool,
    },
}

/// Tries the providers in their order.
pub fn send(parcel: &Parcel) -> Result<Outcome> {
    let providers = of_channel(parcel.channel)?;
    if providers.is_empty() {
        return Ok(without_provider(parcel));
    }
    let mut last = None;
    let mut may_pass = false;
    for provider in &providers {
        let result = if has_room(provider) {
            let result = send::through(provider, parcel);
            note(&provider.id, result.is_ok())?;
            result
        } else {
            Err(Failure {
                code: "PROVIDER_LIMIT",
                error: "The provider has been used as often as allowed.".into(),
                kind: FailureKind::Passing,
            })
        };
        match result {
            Ok(receipt) => return Ok(Outcome::Taken(receipt)),
            Err(failure) if failure.kind == FailureKind::Address => return Ok(Outcome::Refused(failure.error)),
            Err(failure) => {
                logging::warn!("a provider did not take a message", provider = provider.code, code = failure.code);
                may_pass |= failure.kind == FailureKind::Passing;
                last = Some(failure);
            }
        }
    }
    let error = last.map_or_else(String::new, |failure| format!("{}: {}", failure.code, failure.error));
    Ok(Outcome::Failed { error, may_pass })
}

/// E-mail goes over the host's own server where no provider is set up; everything else goes nowhere.
fn without_provider(parcel: &Parcel) -> Outcome {
    if parcel.channel != Channel::Email {
        let error = format!("No provider is set up for {}.", parcel.channel);
        return Outcome::Failed { error, may_pass: false };
    }
    match send::smtp(parcel, None) {
        Ok(message_id) => Outcome::Taken(Receipt { message_id, ..Receipt::default() }),
        Err(failure) if failure.kind == FailureKind::Address => Outcome::Refused(failure.error),
        Err(failure) => Outcome::Failed {
            error: format!("{}: {}", failure.code, failure.error),
            may_pass: failure.kind == FailureKind::Passing,
        },
    }
}

fn has_room(provider: &Stored<Provider>) -> bool {
    let fits =
        |limit: Option<i64>, window| limit.is_none_or(|limit| limits::take_of_provider(&provider.id, window, limit));
    fits(provider.rate_limit, MINUTE) && fits(provider.daily_limit, DAY)
}

/// Notes how a provider did. One statement, and none where nothing changes.
pub fn note(provider_id: &Id, worked: bool) -> Result<()> {
    let sql = if worked {
        "UPDATE notification_providers SET failure_count = 0, health = 'HEALTHY', updated_at = $2 \
         WHERE id = $1 AND (failure_count > 0 OR health <> 'HEALTHY')"
    } else {
        "UPDATE notification_providers SET failure_count = failure_count + 1, updated_at = $2, \
         health = CASE WHEN failure_count + 1 >= $3 THEN 'UNHEALTHY' ELSE 'DEGRADED' END WHERE id = $1"
    };
    let mut parameters: Vec<database::Value> = vec![provider_id.into(), clock::now().into()];
    if !worked {
        parameters.push(FAILURES_UNHEALTHY.into());
    }
    database::execute(sql, &parameters)?;
    Ok(())
}
