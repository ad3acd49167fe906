//! What a value of each type looks like, what of it may be shown, and where it goes in a request. Pure code.

use std::net::IpAddr;

use berth_sdk::{prelude::*, serde_json::Value};
use zeroize::Zeroizing;

use super::{Injection, InjectionKind, SecretType};

/// The largest value, as JSON text, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 64 * 1024;
/// A key shorter than this shows nothing of itself.
const MASKED_CHARACTERS_MIN: usize = 12;
/// How many of its last characters a key shows.
const SHOWN_CHARACTERS: usize = 4;

/// Where the host puts a credential.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// `header` or `query`.
    pub place: &'static str,
    pub name: String,
    pub value: String,
}

/// Checks a value against its type and writes it as it is sealed: 400 `INVALID_SECRET_VALUE`.
pub(crate) fn checked(kind: SecretType, value: &Value) -> Result<Zeroizing<Vec<u8>>> {
    let invalid = |message: &str| Problem::field("value", message).with_code("INVALID_SECRET_VALUE");
    if let Some(message) = fault(kind, value) {
        return Err(invalid(message));
    }
    let text = Zeroizing::new(value.to_string().into_bytes());
    if text.len() > VALUE_BYTES_MAX {
        return Err(invalid("must have at most 65536 bytes"));
    }
    Ok(text)
}

fn fault(kind: SecretType, value: &Value) -> Option<&'static str> {
    let is_text = |name: &str| value.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let text = value.as_str();
    match kind {
        SecretType::ApiKey => match text {
            Some(key) if !key.is_empty() && key.chars().all(|letter| letter.is_ascii_graphic()) => None,
            _ => Some("must be a text of visible ASCII characters"),
        },
        SecretType::Oauth2Token => {
            let is_fit = text.is_some_and(|token| !token.is_empty()) || is_text("accessToken");
            (!is_fit).then_some("must be a token or an object with accessToken")
        }
        SecretType::UsernamePassword => {
            let is_fit = is_text("username") && value.get("password").is_some_and(Value::is_string);
            let has_colon = value.get("username").and_then(Value::as_str).is_some_and(|name| name.contains(':'));
            (!is_fit || has_colon).then_some("must be an object with username (without a colon) and password")
        }
        SecretType::Certificate => {
            let is_fit = text.or_else(|| value.get("certificate")?.as_str()).is_some_and(is_pem);
            (!is_fit).then_some("must be a PEM text or an object with certificate")
        }
        SecretType::SshKey => {
            let is_fit = text.or_else(|| value.get("privateKey")?.as_str()).is_some_and(is_pem);
            (!is_fit).then_some("must be a private key as text or an object with privateKey")
        }
        SecretType::ConnectionString => {
            let is_fit = text.is_some_and(|text| text.contains("://") || text.contains('='));
            (!is_fit).then_some("must be a URL or a list of name=value")
        }
        SecretType::JsonCredential => {
            let is_fit = value.as_object().is_some_and(|members| !members.is_empty());
            (!is_fit).then_some("must be an object with members")
        }
        SecretType::EnvVariableSet => {
            let is_fit = value.as_object().is_some_and(|members| {
                !members.is_empty() && members.iter().all(|(name, value)| is_variable(name) && value.is_string())
            });
            (!is_fit).then_some("must be an object of variables with texts")
        }
        SecretType::Generic => {
            let is_empty = value.is_null() || text.is_some_and(str::is_empty);
            is_empty.then_some("must not be empty")
        }
    }
}

fn is_pem(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("-----BEGIN ") && text.contains("-----END ")
}

/// Whether a text can name a variable of an environment.
pub(crate) fn is_variable(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
        && name.len() <= 255
}

/// What lists show of a value: the last four characters of a long enough API key.
pub(crate) fn mask(kind: SecretType, value: &Value) -> Option<String> {
    let key = value.as_str().filter(|_| kind == SecretType::ApiKey)?;
    let letters: Vec<char> = key.chars().collect();
    let shown = letters.len().checked_sub(SHOWN_CHARACTERS).filter(|_| letters.len() >= MASKED_CHARACTERS_MIN)?;
    Some(format!("****{}", letters.get(shown..)?.iter().collect::<String>()))
}

/// The one text that stands for a value where a single text is needed: a header, a key of a signature.
pub(crate) fn main_text(value: &Value) -> Option<&str> {
    let member = |name: &str| value.get(name).and_then(Value::as_str);
    let found = value.as_str().or_else(|| {
        ["accessToken", "apiKey", "token", "password", "privateKey", "secret"].into_iter().find_map(member)
    });
    found.filter(|text| !text.is_empty())
}

/// Where a value goes: what the secret says, or what is usual for its type. None when it has no place in a request.
pub(crate) fn placement(kind: SecretType, injection: Option<&Injection>, value: &Value) -> Option<Placement> {
    let usual = match kind {
        SecretType::ApiKey | SecretType::Oauth2Token | SecretType::Generic | SecretType::JsonCredential => {
            InjectionKind::Bearer
        }
        SecretType::UsernamePassword => InjectionKind::Basic,
        _ => return injection.and_then(|injection| placed(injection.kind, Some(injection), value)),
    };
    placed(injection.map_or(usual, |injection| injection.kind), injection, value)
}

fn placed(kind: InjectionKind, injection: Option<&Injection>, value: &Value) -> Option<Placement> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let name = |usual: &str| injection.and_then(|injection| injection.name.clone()).unwrap_or_else(|| usual.into());
    let prefix = injection.and_then(|injection| injection.prefix.as_deref()).unwrap_or_default();
    let text = || main_text(value).map(|text| format!("{prefix}{text}"));
    Some(match kind {
        InjectionKind::Bearer => {
            Placement { place: "header", name: name("authorization"), value: format!("Bearer {}", main_text(value)?) }
        }
        InjectionKind::Basic => {
            let member = |name: &str| value.get(name).and_then(Value::as_str);
            let pair = match (member("username"), member("password")) {
                (Some(user), Some(password)) => format!("{user}:{password}"),
                // `user:password` as one text.
                _ => value.as_str().filter(|text| text.contains(':'))?.to_string(),
            };
            let value = format!("Basic {}", STANDARD.encode(Zeroizing::new(pair).as_bytes()));
            Placement { place: "header", name: name("authorization"), value }
        }
        InjectionKind::Header => Placement { place: "header", name: name("authorization"), value: text()? },
        InjectionKind::Query => Placement { place: "query", name: name("key"), value: text()? },
    })
}

/// What speaks against a secret's going to this destination, `host:port` or in the clear `http://host:port`. Where it names
/// hosts, it goes to one of them only; in the clear it goes to this machine, and where a host says `http://` itself.
pub(crate) fn objection(injection: Option<&Injection>, destination: &str) -> Option<&'static str> {
    const FOREIGN: &str = "the destination is not one of its hosts";
    const CLEAR: &str = "it would go in the clear, for which none of its hosts begins with http://";
    let (scheme, place) = match destination.strip_prefix("http://") {
        Some(place) => ("http", place),
        None => ("https", destination),
    };
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let is_unread = scheme == "https" || is_this_machine(host);
    let hosts = injection.and_then(|injection| injection.hosts.as_deref()).unwrap_or_default();
    let mut objection = if hosts.is_empty() { (!is_unread).then_some(CLEAR) } else { Some(FOREIGN) };
    for allowed in hosts {
        let allowed = allowed.to_ascii_lowercase();
        let (wanted, name) = match allowed.split_once("://") {
            Some((wanted, name)) => (Some(wanted), name),
            None => (None, allowed.as_str()),
        };
        let is_named = name == place
            || name == host
            || name.strip_prefix('*').is_some_and(|suffix| {
                suffix.starts_with('.') && host.strip_suffix(suffix).is_some_and(|label| !label.is_empty())
            });
        if is_named && wanted.map_or(is_unread, |wanted| wanted == scheme) {
            return None;
        }
        if is_named && !is_unread {
            objection = Some(CLEAR);
        }
    }
    objection
}

/// What goes there is read by nobody on the way.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;
    use proptest::prelude::*;

    use super::*;

    const PEM: &str = "-----BEGIN KEY-----\nAA==\n-----END KEY-----";

    fn injection(kind: InjectionKind, name: Option<&str>, prefix: Option<&str>, hosts: &[&str]) -> Injection {
        let hosts = (!hosts.is_empty()).then(|| hosts.iter().map(|host| (*host).to_string()).collect());
        Injection { kind, name: name.map(Into::into), prefix: prefix.map(Into::into), hosts }
    }

    #[test]
    fn each_type_takes_what_it_is_and_nothing_else() {
        let fit = [
            (SecretType::ApiKey, json!("sk-live-1")),
            (SecretType::Oauth2Token, json!({"accessToken": "a"})),
            (SecretType::UsernamePassword, json!({"username": "ada", "password": ""})),
            (SecretType::Certificate, json!({"certificate": PEM})),
            (SecretType::SshKey, json!(PEM)),
            (SecretType::ConnectionString, json!("postgres://u:p@h/d")),
            (SecretType::JsonCredential, json!({"type": "service_account"})),
            (SecretType::EnvVariableSet, json!({"A_B": "1"})),
            (SecretType::Generic, json!(0)),
        ];
        for (kind, value) in &fit {
            assert!(checked(*kind, value).is_ok(), "{kind}");
        }
        let unfit = [
            (SecretType::ApiKey, json!("two words")),
            (SecretType::ApiKey, json!("")),
            (SecretType::Oauth2Token, json!({"refreshToken": "a"})),
            (SecretType::UsernamePassword, json!({"username": "a:b", "password": "c"})),
            (SecretType::UsernamePassword, json!("ada:x")),
            (SecretType::Certificate, json!("no pem")),
            (SecretType::SshKey, json!({"publicKey": PEM})),
            (SecretType::ConnectionString, json!("nothing")),
            (SecretType::JsonCredential, json!([])),
            (SecretType::EnvVariableSet, json!({"1A": "x"})),
            (SecretType::Generic, json!(null)),
            (SecretType::Generic, json!("x".repeat(VALUE_BYTES_MAX))),
        ];
        for (kind, value) in &unfit {
            assert_eq!(checked(*kind, value).unwrap_err().code, "INVALID_SECRET_VALUE", "{kind} {value}");
        }
    }

    #[test]
    fn a_mask_shows_four_characters_of_a_long_key_and_none_of_anything_else() {
        assert_eq!(mask(SecretType::ApiKey, &json!("sk-0123456789")).as_deref(), Some("****6789"));
        assert_eq!(mask(SecretType::ApiKey, &json!("short-key")), None);
        assert_eq!(mask(SecretType::Generic, &json!("sk-0123456789")), None);
    }

    #[test]
    fn a_credential_goes_where_its_type_or_its_owner_says() {
        let place = |kind, injection: Option<Injection>, value| {
            placement(kind, injection.as_ref(), &value).map(|placed| (placed.place, placed.name, placed.value))
        };
        let at = |place: &'static str, name: &str, value: &str| Some((place, name.to_string(), value.to_string()));
        assert_eq!(place(SecretType::ApiKey, None, json!("k")), at("header", "authorization", "Bearer k"));
        let user = json!({"username": "Aladdin", "password": "open sesame"});
        let basic = at("header", "authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(place(SecretType::UsernamePassword, None, user), basic);
        let header = injection(InjectionKind::Header, Some("X-Api-Key"), Some("v1 "), &[]);
        assert_eq!(place(SecretType::ApiKey, Some(header), json!("k")), at("header", "X-Api-Key", "v1 k"));
        let query = injection(InjectionKind::Query, Some("apikey"), None, &[]);
        assert_eq!(place(SecretType::ApiKey, Some(query), json!("k")), at("query", "apikey", "k"));
        let token = json!({"accessToken": "t", "refreshToken": "r"});
        assert_eq!(place(SecretType::Oauth2Token, None, token), at("header", "authorization", "Bearer t"));
        assert_eq!(place(SecretType::EnvVariableSet, None, json!({"A": "b"})), None);
        assert_eq!(place(SecretType::SshKey, None, json!(PEM)), None);
    }

    #[test]
    fn a_secret_with_hosts_goes_to_them_only() {
        let hosts = injection(InjectionKind::Bearer, None, None, &["api.example.com", "*.example.org", "h.test:8443"]);
        for to in ["api.example.com:443", "api.example.com:8080", "a.example.org:443", "h.test:8443"] {
            assert_eq!(objection(Some(&hosts), to), None, "{to}");
        }
        for to in ["evil.example.com:443", "example.org:443", "api.example.com.evil.net:443", "h.test:443"] {
            assert_eq!(objection(Some(&hosts), to), Some("the destination is not one of its hosts"), "{to}");
        }
        assert_eq!(objection(None, "anywhere.example:443"), None);
    }

    #[test]
    fn in_the_clear_a_secret_goes_only_where_it_says_so_itself() {
        let hosts = ["http://a.test", "http://*.b.test", "https://c.test", "d.test", "http://d.test:81", "127.0.0.1"];
        let hosts = injection(InjectionKind::Bearer, None, None, &hosts);
        for to in ["http://a.test:80", "c.test:443", "http://x.b.test:80", "http://d.test:81", "http://127.0.0.1:9"] {
            assert_eq!(objection(Some(&hosts), to), None, "{to}");
        }
        let is_clear = |objection: Option<&str>| objection.is_some_and(|text| text.contains("in the clear"));
        for to in ["http://c.test:80", "http://d.test:80"] {
            assert!(is_clear(objection(Some(&hosts), to)), "{to}");
        }
        for to in ["a.test:443", "http://e.test:80", "http://127.0.0.2:9"] {
            assert_eq!(objection(Some(&hosts), to), Some("the destination is not one of its hosts"), "{to}");
        }
        for to in ["http://localhost:80", "http://127.0.0.1:11434", "http://[::1]:80"] {
            assert_eq!(objection(None, to), None, "{to}");
        }
        for to in ["http://anywhere.example:80", "http://10.0.0.1:80", "http://localhost.example:80"] {
            assert!(is_clear(objection(None, to)), "{to}");
        }
    }

    proptest! {
        #[test]
        fn a_mask_never_shows_more_than_a_third(key in "[!-~]{0,64}") {
            if let Some(mask) = mask(SecretType::ApiKey, &json!(key)) {
                prop_assert!((mask.len() - 4) * 3 <= key.len());
            }
        }
    }
}
