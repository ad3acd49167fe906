//! The way out to providers and webhooks, with one word for each thing that can be in the way.

use berth_sdk::{
    http_out::{Call, Reply},
    prelude::*,
};

use crate::provider::send::{Failure, FailureKind};

/// Whether an address is another plugin's: those are called with the rights of whoever the call is for, which neither a webhook
/// nor a provider may borrow.
pub fn is_internal(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "internal" || host.ends_with(".internal")
}

/// Sends a call; the host puts in the secret that it names.
pub fn send(call: &Call) -> Result<Reply, Failure> {
    call.send().map_err(|fault| {
        let (code, error, kind) = match fault {
            Fault::Denied(_) => (
                "EGRESS_DENIED",
                "The address is not on this service's list of allowed hosts.".to_string(),
                FailureKind::Lasting,
            ),
            Fault::SecretUnavailable => (
                "SECRET_UNAVAILABLE",
                "The secret is not there, has expired, or may not be used by notification-manager for this address."
                    .to_string(),
                FailureKind::Lasting,
            ),
            Fault::Timeout => ("TIMEOUT", "The other side took too long.".to_string(), FailureKind::Passing),
            Fault::TooLarge(_) => ("TOO_LARGE", "The answer is too large.".to_string(), FailureKind::Lasting),
            Fault::Invalid(_) => ("INVALID_ADDRESS", "The address is not valid.".to_string(), FailureKind::Lasting),
            _ => ("UNREACHABLE", "The other side cannot be reached.".to_string(), FailureKind::Passing),
        };
        Failure { code, error, kind }
    })
}

#[cfg(test)]
mod tests {
    use super::is_internal;

    #[test]
    fn another_plugin_is_one_however_it_is_written() {
        for url in [
            "http://planning.internal/x",
            "http://Planning.INTERNAL:80",
            "https://host.internal./api/users",
            "http://user@host.internal?x",
            "http://internal/",
        ] {
            assert!(is_internal(url), "{url}");
        }
        for url in ["https://hooks.example.com/a.internal/b", "http://internal.example.com", "http://127.0.0.1:9/x"] {
            assert!(!is_internal(url), "{url}");
        }
    }
}
