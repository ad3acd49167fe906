//! Signatures over `timestamp.body`, made and checked by the host with a stored secret.

pub use berth_sdk::webhook::{SIGNATURE, TIMESTAMP, header, is_fresh, parse, signed_text, verify};
use berth_sdk::{prelude::*, secrets};

use crate::provider::send::{Failure, FailureKind};

/// The host's HMAC with a secret.
pub fn sign(secret_id: &str, text: &[u8]) -> Result<Vec<u8>, Failure> {
    secrets::hmac_with_secret(secret_id, None, text).map_err(|fault| match fault {
        Fault::SecretUnavailable => Failure {
            code: "SECRET_UNAVAILABLE",
            error: "The secret is not there, has expired, or may not be used by notification-manager.".into(),
            kind: FailureKind::Lasting,
        },
        _ => Failure {
            code: "SIGNING_FAILED",
            error: "The host could not sign the call just now.".into(),
            kind: FailureKind::Passing,
        },
    })
}
