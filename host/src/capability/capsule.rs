//! A capsule: one failed call of a guest, with everything it asked of its host and was answered, so that another build can be
//! tried on it.
//!
//! It holds what customers sent and stored; it is for operators of the platform and nobody else. No secret that the host
//! knows for one stands in it (see [`super::tape::hide`]).

mod caller;
mod keeper;

pub(crate) use caller::Caller;
pub(crate) use keeper::{Keeper, KeeperOptions};

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Plugin;
use super::tape::hide::{HIDDEN, Hider, read_bytes, show_bytes};
use super::tape::{Player, PlayerNotes, Readings, Recording, TapedCall};
use crate::bindings::consumer::{Delivery, DeliveryKind};
use crate::bindings::handler::Request;
use crate::principal::Call;

/// The form of what is written; another one is not read.
const FORMAT: u32 = 1;
/// The largest request body or message that is kept; a larger one is left out, and there is no replay.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// The beginning of a failed answer's body, as it is kept.
const ANSWER_BYTES_KEPT: usize = 4 << 10;
/// A larger answer's body is not looked at.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a capsule that is read: everything in it escaped at its worst.
pub(crate) const CAPSULE_BYTES_MAX: usize = 32 << 20;

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum Failure {
    /// The first line of the trap.
    Trap {
        text: String,
    },
    Memory,
    Timeout,
    /// A status of 500 or more, or one that is none, and how the body begins.
    Status {
        status: u16,
        body: Value,
    },
}

/// What the guest was called with.
pub(crate) enum Subject {
    /// A request, and whether it is here with its body: without, it is larger than is kept.
    Request {
        request: Request,
        is_whole: bool,
    },
    Delivery(Arc<Delivery>),
}

/// A failed call as it is handed over, before anything was written.
pub(crate) struct Draft {
    pub id: Arc<str>,
    pub at: DateTime<Utc>,
    pub plugin: Arc<Plugin>,
    pub revision: i64,
    pub sha256: Arc<str>,
    pub failure: Failure,
    pub call: Call,
    /// How long the call might have taken when it began, in milliseconds.
    pub time_ms: u64,
    pub seed: u128,
    pub subject: Subject,
    pub recording: Recording,
}

/// A capsule as it is written and read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Capsule {
    pub format: u32,
    #[serde(flatten)]
    pub summary: Summary,
    pub caller: Caller,
    pub limits: KeptLimits,
    /// `[plugin.config]`, without secrets.
    pub config: BTreeMap<String, String>,
    pub subject: KeptSubject,
    /// The seed of hash maps, in hexadecimal.
    seed: String,
    /// What clock and chance said.
    readings: Readings,
    /// Members called `value` were hidden too.
    hides_values: bool,
    pub calls: Vec<TapedCall>,
    /// Whether there were more calls, for which there was no room.
    pub is_cut: bool,
}

/// What a list of capsules says of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub id: String,
    /// When it failed.
    pub at: DateTime<Utc>,
    pub plugin: String,
    pub revision: i64,
    pub sha256: String,
    /// As in `POST /api/plans`, or the type of a message.
    pub what: String,
    pub request_id: String,
    pub failure: Failure,
    /// How many host functions were called.
    pub host_calls: usize,
}

/// The limits that the call ran under.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptLimits {
    pub memory_mib: u32,
    /// How long the call might take.
    pub time_ms: u64,
}

/// What the guest was called with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(crate) enum KeptSubject {
    Request {
        method: String,
        path: String,
        query: Option<String>,
        headers: Vec<(String, String)>,
        body: Value,
    },
    Message {
        delivery_kind: String,
        id: String,
        r#type: String,
        data: String,
        organization_id: Option<String>,
        user_id: Option<String>,
        source_service: String,
        timestamp: String,
        correlation_id: Option<String>,
        causation_id: Option<String>,
        attempt: u32,
        is_last_attempt: bool,
    },
    /// Larger than is kept.
    TooLarge,
}

impl Draft {
    /// Writes it down, without secrets.
    pub(crate) fn capsule(self) -> Capsule {
        let hider = Hider::new(self.plugin.grant.secrets);
        let config = self.plugin.config.iter().map(|(key, value)| {
            let value = if hider.is_secret(key) { hider.hide(value) } else { hider.text(value) };
            (key.clone(), value)
        });
        let config: BTreeMap<String, String> = config.collect();
        let (what, subject) = kept(&self.subject, &hider);
        let (calls, is_cut) = self.recording.show(&hider);
        let host_calls = self.recording.count();
        let mut capsule = Capsule {
            format: FORMAT,
            summary: Summary {
                id: self.id.as_ref().to_owned(),
                at: self.at,
                plugin: self.plugin.name.as_ref().to_owned(),
                revision: self.revision,
                sha256: self.sha256.as_ref().to_owned(),
                what,
                request_id: self.call.request_id.as_ref().to_owned(),
                failure: hidden(self.failure, &hider),
                host_calls,
            },
            caller: Caller::of(&self.call),
            limits: KeptLimits { memory_mib: self.plugin.limits.memory_mib, time_ms: self.time_ms },
            config,
            subject,
            seed: format!("{:x}", self.seed),
            readings: self.recording.readings().clone(),
            hides_values: self.plugin.grant.secrets,
            calls,
            is_cut,
        };
        capsule.scrub(&hider);
        capsule
    }
}

impl Capsule {
    /// Hides everywhere what was hidden by its name somewhere. Where that cannot be done, what may hold it is left out.
    fn scrub(&mut self, hider: &Hider) {
        let parts = (&self.summary.what, &self.summary.failure, &self.config, &self.subject, &self.calls);
        let scrubbed = serde_json::to_value(parts).ok().and_then(|mut parts| {
            hider.scrub(&mut parts).ok()?;
            serde_json::from_value(parts).ok()
        });
        if let Some((what, failure, config, subject, calls)) = scrubbed {
            (self.summary.what, self.summary.failure, self.config, self.subject, self.calls) =
                (what, failure, config, subject, calls);
            return;
        }
        (self.subject, self.calls, self.is_cut) = (KeptSubject::TooLarge, Vec::new(), true);
        self.config.clear();
        match &mut self.summary.failure {
            Failure::Trap { text } => *text = HIDDEN.to_owned(),
            Failure::Status { body, .. } => *body = show_bytes(HIDDEN.as_bytes()),
            Failure::Memory | Failure::Timeout => {}
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// A sentence, for what is no capsule or one of another form.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let capsule: Self = serde_json::from_slice(bytes).map_err(|error| format!("this is no capsule: {error}"))?;
        match capsule.format {
            FORMAT => Ok(capsule),
            other => Err(format!("the capsule has the form {other}, and this program reads the form {FORMAT}")),
        }
    }

    /// The player of its calls.
    pub(crate) fn player(&self) -> Player {
        let given = serde_json::to_string(&(&self.caller, &self.subject, &self.config)).unwrap_or_default();
        Player::new(PlayerNotes {
            calls: self.calls.clone(),
            is_cut: self.is_cut,
            readings: self.readings.clone(),
            seed: u128::from_str_radix(&self.seed, 16).unwrap_or_default(),
            began: self.summary.at.timestamp_nanos_opt().and_then(|at| u64::try_from(at).ok()).unwrap_or_default(),
            given,
            hides_values: self.hides_values,
        })
    }

    /// The call as it was, with its time before it.
    pub(crate) fn call(&self, deadline: std::time::Instant) -> Call {
        let text = |value: &Option<String>| value.as_deref().map(Arc::from);
        let caller = &self.caller;
        Call {
            principal: Arc::new(caller.principal()),
            request_id: self.summary.request_id.as_str().into(),
            source_service: text(&caller.source_service),
            causation_id: text(&caller.causation_id),
            correlation_id: text(&caller.correlation_id),
            depth: caller.depth,
            deadline: Some(deadline),
            trace: crate::trace::Trace::default(),
            is_shadow: caller.is_shadow,
        }
    }
}

impl KeptSubject {
    /// The message, for what is one.
    pub(crate) fn delivery(&self) -> Option<Delivery> {
        let Self::Message {
            delivery_kind,
            id,
            r#type,
            data,
            organization_id,
            user_id,
            source_service,
            timestamp,
            correlation_id,
            causation_id,
            attempt,
            is_last_attempt,
        } = self.clone()
        else {
            return None;
        };
        let kind = [DeliveryKind::Event, DeliveryKind::Work, DeliveryKind::Timer];
        Some(Delivery {
            kind: kind.into_iter().find(|kind| kind_name(*kind) == delivery_kind)?,
            id,
            type_: r#type,
            data,
            organization_id,
            user_id,
            source_service,
            timestamp,
            correlation_id,
            causation_id,
            attempt,
            is_last_attempt,
        })
    }
}

/// A failure without secrets, and of an answer's body the beginning.
fn hidden(failure: Failure, hider: &Hider) -> Failure {
    match failure {
        Failure::Status { status, body } => {
            let body = hider.bytes(&read_bytes(&body).unwrap_or_default());
            let begin = body.get(..ANSWER_BYTES_KEPT).unwrap_or(&body);
            Failure::Status { status, body: show_bytes(String::from_utf8_lossy(begin).as_bytes()) }
        }
        other => other,
    }
}

fn kept(subject: &Subject, hider: &Hider) -> (String, KeptSubject) {
    match subject {
        Subject::Request { request, is_whole } => {
            let what = format!("{} {}", request.method, request.path);
            // Also where they are left out: what is a secret in them is hidden in the calls too.
            let headers = request.headers.iter().map(|(name, value)| (name.clone(), hider.header(name, value)));
            let headers = headers.collect();
            let query = request.query.as_deref().map(|query| hider.pairs(query));
            if !is_whole {
                return (what, KeptSubject::TooLarge);
            }
            let subject = KeptSubject::Request {
                method: request.method.clone(),
                path: request.path.clone(),
                query,
                headers,
                body: hider.body(&request.headers, &request.body),
            };
            (what, subject)
        }
        Subject::Delivery(delivery) if delivery.data.len() > BODY_BYTES_MAX => {
            (delivery.type_.clone(), KeptSubject::TooLarge)
        }
        Subject::Delivery(delivery) => {
            let subject = KeptSubject::Message {
                delivery_kind: kind_name(delivery.kind).to_owned(),
                id: delivery.id.clone(),
                r#type: delivery.type_.clone(),
                data: hider.text(&delivery.data),
                organization_id: delivery.organization_id.clone(),
                user_id: delivery.user_id.clone(),
                source_service: delivery.source_service.clone(),
                timestamp: delivery.timestamp.clone(),
                correlation_id: delivery.correlation_id.clone(),
                causation_id: delivery.causation_id.clone(),
                attempt: delivery.attempt,
                is_last_attempt: delivery.is_last_attempt,
            };
            (delivery.type_.clone(), subject)
        }
    }
}

const fn kind_name(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Event => "event",
        DeliveryKind::Work => "work",
        DeliveryKind::Timer => "timer",
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::capability::testing;

    /// A failed request of the plugin `name`.
    pub(crate) fn draft(name: &str, body: &str) -> Draft {
        let guest = testing::guest(name, Some("org-1"));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Draft {
            id: uuid::Uuid::now_v7().to_string().into(),
            at: Utc::now(),
            plugin: guest.plugin,
            revision: 3,
            sha256: "00".repeat(32).into(),
            failure: Failure::Trap { text: "unreachable".into() },
            call: guest.call,
            time_ms: 1_000,
            seed: u128::MAX,
            subject: Subject::Request {
                is_whole: true,
                request: Request {
                    method: "POST".into(),
                    path: "/api/things".into(),
                    query: Some("a=1&api_key=abcdefgh".into()),
                    headers: vec![header("authorization", "Bearer the-users-token"), header("accept", "*/*")],
                    body: body.as_bytes().to_vec(),
                    request_id: "request-1".into(),
                },
            },
            recording: Recording::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::PrincipalKind;

    #[test]
    fn a_capsule_holds_no_secret_that_is_known_for_one_and_comes_back() {
        let mut draft = testing::draft("shop", r#"{"order":7,"password":"open sesame","note":"is open sesame"}"#);
        draft.failure = Failure::Status { status: 500, body: show_bytes(b"sent the-users-token with abcdefgh") };
        let plugin = Arc::make_mut(&mut draft.plugin);
        plugin.config.insert("vendor_api_key".into(), "k-123456789".into());
        plugin.config.insert("vendor_url".into(), "https://vendor.example/?k=k-123456789".into());
        let text = serde_json::to_string(&draft.capsule()).unwrap();
        for secret in ["sesame", "the-users-token", "abcdefgh", "k-123456789"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        let capsule = Capsule::read(text.as_bytes()).unwrap();
        assert_eq!((capsule.summary.what.as_str(), capsule.limits.time_ms), ("POST /api/things", 1_000));
        assert_eq!(capsule.seed, format!("{:x}", u128::MAX));
        let call = capsule.call(std::time::Instant::now());
        assert!(call.principal.kind == PrincipalKind::System && call.principal.has_permission("a.b.c"));
        assert_eq!(call.principal.organization_id.as_deref(), Some("org-1"));
    }

    #[test]
    fn a_request_that_is_too_large_hides_its_secrets_elsewhere_too() {
        let mut draft = testing::draft("shop", "");
        draft.failure = Failure::Status { status: 500, body: show_bytes(b"sent the-users-token with abcdefgh") };
        let Subject::Request { is_whole, .. } = &mut draft.subject else { panic!("a request") };
        *is_whole = false;
        let capsule = draft.capsule();
        assert!(matches!(capsule.subject, KeptSubject::TooLarge));
        let text = serde_json::to_string(&capsule).unwrap();
        assert!(!text.contains("the-users-token") && !text.contains("abcdefgh"), "{text}");
    }

    #[test]
    fn a_message_comes_back() {
        let delivery = Delivery {
            kind: DeliveryKind::Work,
            id: "1".into(),
            type_: "a.b".into(),
            data: r#"{"token":"abcdefgh","n":1}"#.into(),
            organization_id: Some("org-1".into()),
            user_id: None,
            source_service: "shop".into(),
            timestamp: "2026-01-31T08:15:00.000Z".into(),
            correlation_id: None,
            causation_id: None,
            attempt: 2,
            is_last_attempt: true,
        };
        let mut draft = testing::draft("shop", "");
        draft.subject = Subject::Delivery(Arc::new(delivery));
        let capsule = Capsule::read(&serde_json::to_vec(&draft.capsule()).unwrap()).unwrap();
        let again = capsule.subject.delivery().unwrap();
        assert_eq!((again.kind, again.attempt, again.is_last_attempt), (DeliveryKind::Work, 2, true));
        assert_eq!(again.data, r#"{"token":"[redacted]","n":1}"#);
    }

    #[test]
    fn what_holds_too_many_secrets_is_left_out() {
        let body =
            (0..2_000).map(|number| format!(r#"{{"token":"secret-{number:06}"}}"#)).collect::<Vec<_>>().join(",");
        let capsule = testing::draft("shop", &format!("[{body}]")).capsule();
        assert!(capsule.is_cut && matches!(capsule.subject, KeptSubject::TooLarge));
    }

    #[test]
    fn something_else_is_no_capsule() {
        for (bytes, word) in [(&b"{}"[..], "no capsule"), (b"garbage", "no capsule")] {
            assert!(Capsule::read(bytes).unwrap_err().contains(word));
        }
        let mut capsule = testing::draft("shop", "").capsule();
        capsule.format = 2;
        assert!(Capsule::read(&serde_json::to_vec(&capsule).unwrap()).unwrap_err().contains("form 2"));
    }
}
