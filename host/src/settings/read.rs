//! Reading one setting after the other, collecting faults instead of stopping at the first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::known::{PROVIDER_PARTS, is_known, provider_part, unknown_sentence};
use super::{
    CacheUrl, DatabaseUrl, Fault, FeedOrganization, Hidden, LoginProvider, MailSettings, MasterKey, QueueUrl, RunFlags,
    TlsFiles, WithoutCache,
};
use crate::signature::{TRUSTED_KEYS_MAX, TrustedKey, key_fault};
use crate::telemetry::LogFormat;

/// Characters of an operator token: short enough for a header, long enough not to be guessed.
const OPERATOR_TOKEN_CHARACTERS: std::ops::RangeInclusive<usize> = 16..=512;
/// Characters of `BERTH_NAMESPACE`.
const NAMESPACE_CHARACTERS_MAX: usize = 40;
/// Origins in `BERTH_ALLOWED_ORIGINS`.
const ORIGINS_MAX: usize = 100;
/// Networks in `BERTH_TRUSTED_PROXIES`.
const NETWORKS_MAX: usize = 100;
/// Hex characters of the master key: 256 bits.
const MASTER_KEY_CHARACTERS: usize = 64;

/// The values as given, and the faults so far.
pub(super) struct Reader {
    /// By variable: the name to complain about (a flag or the variable) and the value.
    given: BTreeMap<String, (String, String)>,
    faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn new(flags: &RunFlags, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut reader = Self { given: BTreeMap::new(), faults: Vec::new() };
        for (name, value) in environment {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with("BERTH_") {
                continue;
            }
            if !is_known(&name) {
                let sentence = unknown_sentence(&name);
                reader.fault(&name, sentence);
                continue;
            }
            reader.give(name.clone(), name, value);
        }
        for (flag, variable, value) in [
            ("--config", "BERTH_CONFIG", &flags.config),
            ("--data", "BERTH_DATA", &flags.data),
            ("--listen", "BERTH_LISTEN", &flags.listen),
            ("--admin-listen", "BERTH_ADMIN_LISTEN", &flags.admin_listen),
            ("--log", "BERTH_LOG", &flags.log),
            ("--log-format", "BERTH_LOG_FORMAT", &flags.log_format),
        ] {
            if let Some(value) = value {
                reader.give(variable.to_owned(), flag.to_owned(), value.clone());
            }
        }
        reader
    }

    /// Nothing when no fault was found.
    pub(super) fn finish(self) -> Result<(), Vec<Fault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    pub(super) fn path(&mut self, variable: &str) -> Option<PathBuf> {
        self.text(variable).map(|(_, value)| PathBuf::from(value))
    }

    pub(super) fn address(&mut self, variable: &str) -> Option<SocketAddr> {
        let (name, value) = self.text(variable)?;
        let numeric = match value.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => value.clone(),
        };
        let parsed = numeric.parse();
        self.keep(&name, parsed.ok(), || format!("\"{value}\" is not an address and port, as in 127.0.0.1:3000"))
    }

    pub(super) fn number(&mut self, variable: &str, max: u32) -> Option<u32> {
        let (name, value) = self.text(variable)?;
        let number = value.parse().ok().filter(|number| *number <= max);
        self.keep(&name, number, || format!("\"{value}\" is not a whole number from 0 to {max}"))
    }

    /// A share, from 0 to 1.
    pub(super) fn share(&mut self, variable: &str) -> Option<f64> {
        let (name, value) = self.text(variable)?;
        let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        self.keep(&name, share, || format!("\"{value}\" is not a number from 0 to 1"))
    }

    pub(super) fn truth(&mut self, variable: &str) -> Option<bool> {
        let (name, value) = self.text(variable)?;
        self.keep(&name, value.parse().ok(), || format!("\"{value}\" is neither true nor false"))
    }

    /// Public keys separated by commas; none when the variable is absent.
    pub(super) fn keys(&mut self, variable: &str) -> Option<Vec<TrustedKey>> {
        let (name, value) = self.text(variable)?;
        let words = split(&value);
        // An empty list would trust everybody, in place of the manifest's keys.
        if words.is_empty() || words.len() > TRUSTED_KEYS_MAX {
            self.fault(&name, format!("must name 1 to {TRUSTED_KEYS_MAX} keys"));
        }
        let mut keys = Vec::new();
        for word in words {
            match TrustedKey::parse(&word) {
                Some(key) => keys.push(key),
                None => self.fault(&name, key_fault(&word)),
            }
        }
        Some(keys)
    }

    pub(super) fn web_url(&mut self, variable: &str) -> Option<String> {
        let (name, value) = self.text(variable)?;
        let url = is_web_url(&value).then(|| value.trim_end_matches('/').to_owned());
        self.keep(&name, url, || "is not a URL that begins with http:// or https://, without query".to_owned())
    }

    pub(super) fn database(&mut self) -> Option<DatabaseUrl> {
        let (name, value) = self.text("BERTH_DATABASE_URL")?;
        let url = if let Some(path) = value.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_file = !path.is_empty() && !path.contains(":memory:") && !path.contains('?');
            is_file.then(|| DatabaseUrl::Sqlite(PathBuf::from(path)))
        } else {
            has_scheme(&value, &["postgres", "postgresql"]).then(|| DatabaseUrl::Postgres(Hidden::new(value)))
        };
        self.keep(&name, url, || {
            "is neither sqlite:<file> nor postgres://<user>:<password>@<host>/<database>".to_owned()
        })
    }

    pub(super) fn cache(&mut self) -> Option<CacheUrl> {
        let (name, value) = self.text("BERTH_CACHE_URL")?;
        let url = if value == "memory:" {
            Some(CacheUrl::Memory)
        } else {
            has_scheme(&value, &["redis", "rediss"]).then(|| CacheUrl::Redis(Hidden::new(value)))
        };
        self.keep(&name, url, || "is neither memory: nor redis://<host> nor rediss://<host>".to_owned())
    }

    pub(super) fn queue(&mut self) -> Option<QueueUrl> {
        let (name, value) = self.text("BERTH_QUEUE_URL")?;
        let url = if value == "embedded:" {
            Some(QueueUrl::Embedded)
        } else {
            has_scheme(&value, &["amqp", "amqps"]).then(|| QueueUrl::Amqp(Hidden::new(value)))
        };
        self.keep(&name, url, || "is neither embedded: nor amqp://<host> nor amqps://<host>".to_owned())
    }

    pub(super) fn namespace(&mut self) -> Option<String> {
        let (name, value) = self.text("BERTH_NAMESPACE")?;
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let is_good = value.len() <= NAMESPACE_CHARACTERS_MAX && value.bytes().all(is_letter);
        self.keep(&name, is_good.then_some(value), || {
            format!("is not a name of at most {NAMESPACE_CHARACTERS_MAX} characters of a-z, 0-9, - and _")
        })
    }

    pub(super) fn without_cache(&mut self) -> Option<WithoutCache> {
        let (name, value) = self.text("BERTH_RATE_LIMIT_WITHOUT_CACHE")?;
        let choice = match value.as_str() {
            "open" => Some(WithoutCache::Open),
            "closed" => Some(WithoutCache::Closed),
            _ => None,
        };
        self.keep(&name, choice, || format!("\"{value}\" is neither open nor closed"))
    }

    pub(super) fn master_key(&mut self) -> Option<MasterKey> {
        let file = self.text("BERTH_MASTER_KEY_FILE");
        let Some((name, value)) = self.text("BERTH_MASTER_KEY") else {
            return file.map(|(_, path)| MasterKey::File { path: PathBuf::from(path), make: false });
        };
        if file.is_some() {
            self.fault(&name, "cannot be set together with BERTH_MASTER_KEY_FILE".to_owned());
        }
        let is_key = value.len() == MASTER_KEY_CHARACTERS && value.chars().all(|c| c.is_ascii_hexdigit());
        let key = is_key.then(|| MasterKey::Given(Hidden::new(value)));
        self.keep(&name, key, || format!("is not {MASTER_KEY_CHARACTERS} hex characters"))
    }

    pub(super) fn operator_token(&mut self) -> Option<Hidden> {
        let (name, value) = self.text("BERTH_OPERATOR_TOKEN")?;
        let is_token = OPERATOR_TOKEN_CHARACTERS.contains(&value.len()) && value.chars().all(|c| c.is_ascii_graphic());
        self.keep(&name, is_token.then(|| Hidden::new(value)), || {
            let (min, max) = (OPERATOR_TOKEN_CHARACTERS.start(), OPERATOR_TOKEN_CHARACTERS.end());
            format!("is not a token of {min} to {max} printable characters without spaces")
        })
    }

    pub(super) fn origins(&mut self) -> Vec<String> {
        let Some((name, value)) = self.text("BERTH_ALLOWED_ORIGINS") else { return Vec::new() };
        let origins = split(&value);
        if origins.len() > ORIGINS_MAX {
            self.fault(&name, format!("names more than {ORIGINS_MAX} origins"));
        }
        for origin in &origins {
            // An origin is a URL without path; `*` together with credentials would open every account to every page.
            let has_path = origin.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
            if !is_web_url(origin) || has_path {
                self.fault(&name, format!("\"{origin}\" is not an origin, as in https://app.example.com"));
            }
        }
        origins
    }

    /// Addresses and networks, as in `10.0.0.0/8, 192.0.2.1`.
    pub(super) fn networks(&mut self, variable: &str) -> Vec<IpNet> {
        let Some((name, value)) = self.text(variable) else { return Vec::new() };
        let words = split(&value);
        if words.len() > NETWORKS_MAX {
            self.fault(&name, format!("names more than {NETWORKS_MAX} networks"));
        }
        let mut networks = Vec::new();
        for word in words {
            match word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => self.fault(&name, format!("\"{word}\" is not an address or a network, as in 10.0.0.0/8")),
            }
        }
        networks
    }

    pub(super) fn tls(&mut self) -> Option<TlsFiles> {
        let (certificate, key) = self.pair("BERTH_TLS_CERT", "BERTH_TLS_KEY")?;
        for (name, path) in [("BERTH_TLS_CERT", &certificate), ("BERTH_TLS_KEY", &key)] {
            if !path.is_empty() && !PathBuf::from(path).is_file() {
                self.fault(name, format!("there is no file {path}"));
            }
        }
        Some(TlsFiles { certificate: certificate.into(), key: key.into() })
    }

    pub(super) fn mail(&mut self) -> Option<MailSettings> {
        let (url, from) = self.pair("BERTH_SMTP_URL", "BERTH_MAIL_FROM")?;
        if !url.is_empty() && !has_scheme(&url, &["smtp", "smtps"]) {
            self.fault("BERTH_SMTP_URL", "is neither smtp://<host> nor smtps://<host>".to_owned());
        }
        let is_mailbox = from.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !from.is_empty() && !is_mailbox {
            self.fault("BERTH_MAIL_FROM", format!("\"{from}\" is not a mail address"));
        }
        Some(MailSettings { url: Hidden::new(url), from })
    }

    pub(super) fn login_providers(&mut self) -> BTreeMap<String, LoginProvider> {
        let names: std::collections::BTreeSet<String> =
            self.given.keys().filter_map(|variable| provider_part(variable)).map(|(name, _)| name).collect();
        let mut providers = BTreeMap::new();
        for provider in names {
            let [issuer, client_id, client_secret] = PROVIDER_PARTS.map(|part| {
                let variable = format!("BERTH_OIDC_{}{part}", provider.to_ascii_uppercase());
                let value = self.text(&variable).map(|(_, value)| value);
                if value.is_none() {
                    self.fault(
                        &variable,
                        format!("is missing: the login provider {provider} needs all three variables"),
                    );
                }
                value.unwrap_or_default()
            });
            let variable = format!("BERTH_OIDC_{}_ISSUER", provider.to_ascii_uppercase());
            if !issuer.is_empty() && !is_issuer(&issuer) {
                self.fault(&variable, "is not a URL that begins with https://".to_owned());
            }
            if self.text("BERTH_PUBLIC_URL").is_none() {
                let sentence = "needs BERTH_PUBLIC_URL, which the provider sends the browser back to".to_owned();
                self.fault(&variable, sentence);
            }
            providers.insert(provider, LoginProvider { issuer, client_id, client_secret: Hidden::new(client_secret) });
        }
        providers
    }

    pub(super) fn feed_organization(&mut self) -> Option<FeedOrganization> {
        let (name, value) = self.text("BERTH_FEED_ORGANIZATION")?;
        let organization = match value.as_str() {
            "operator" => Some(FeedOrganization::Operator),
            id => uuid::Uuid::try_parse(id).ok().map(|id| FeedOrganization::Id(id.to_string())),
        };
        self.keep(&name, organization, || format!("\"{value}\" is neither operator nor the id of an organization"))
    }

    pub(super) fn log_filter(&mut self) -> Option<String> {
        let (name, value) = self.text("BERTH_LOG")?;
        let is_filter = tracing_subscriber::EnvFilter::try_new(&value).is_ok();
        self.keep(&name, is_filter.then(|| value.clone()), || {
            format!("\"{value}\" is not a log filter: error, warn, info, debug, trace, or as in info,berth=debug")
        })
    }

    pub(super) fn log_format(&mut self) -> Option<LogFormat> {
        let (name, value) = self.text("BERTH_LOG_FORMAT")?;
        let format = match value.as_str() {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        };
        self.keep(&name, format, || format!("\"{value}\" is neither text nor json"))
    }

    /// Two settings that only make sense together. A missing one is a fault and read as empty.
    fn pair(&mut self, first: &str, second: &str) -> Option<(String, String)> {
        let values = (self.text(first).map(|(_, value)| value), self.text(second).map(|(_, value)| value));
        match &values {
            (None, None) => return None,
            (Some(_), None) => self.fault(second, format!("is missing: {first} needs it")),
            (None, Some(_)) => self.fault(first, format!("is missing: {second} needs it")),
            (Some(_), Some(_)) => {}
        }
        Some((values.0.unwrap_or_default(), values.1.unwrap_or_default()))
    }

    fn give(&mut self, variable: String, name: String, value: OsString) {
        match value.into_string() {
            Ok(value) if value.trim().is_empty() => {}
            Ok(value) => {
                self.given.insert(variable, (name, value.trim().to_owned()));
            }
            Err(_) => self.fault(&name, "is not UTF-8 text".to_owned()),
        }
    }

    /// The name to complain about and the value.
    fn text(&self, variable: &str) -> Option<(String, String)> {
        self.given.get(variable).cloned()
    }

    fn keep<T>(&mut self, name: &str, value: Option<T>, sentence: impl FnOnce() -> String) -> Option<T> {
        if value.is_none() {
            self.fault(name, sentence());
        }
        value
    }

    fn fault(&mut self, setting: &str, sentence: String) {
        self.faults.push(Fault { setting: setting.to_owned(), sentence });
    }
}

fn split(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether it is `<scheme>://<something>` with one of the schemes.
fn has_scheme(value: &str, schemes: &[&str]) -> bool {
    value.split_once("://").is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

/// Whether a login provider may be asked there: over TLS, or on this machine, as in development.
fn is_issuer(value: &str) -> bool {
    let Ok(uri) = value.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_web_url(value) && (uri.scheme_str() == Some("https") || is_here)
}

fn is_web_url(value: &str) -> bool {
    let Ok(uri) = value.parse::<http::Uri>() else { return false };
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    is_web && uri.host().is_some_and(|host| !host.is_empty() && host != "*") && uri.query().is_none()
}
