//! The settings of `berth run`: flags first, then the environment, then the defaults of the specification.
//!
//! They are judged whole before any port is bound, and every fault is reported at once. This is the only room besides the
//! command line that may look at the environment; it opens nothing and writes nothing.

mod known;
mod read;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use read::Reader;

use crate::signature::TrustedKey;
use crate::telemetry::LogFormat;

pub(crate) use known::nearest;

/// Requests per minute that may be asked for: above it a limit is no limit.
pub(crate) const RATE_LIMIT_PER_MINUTE_MAX: u32 = 1_000_000;

/// The longest delay before a stopping host closes its ports.
const STOP_DELAY_SECONDS_MAX: u32 = 300;

/// The most that capsules can be bounded by: of each plugin, in MiB together, in days.
const CAPSULES_MAX: u32 = 1_000;
const CAPSULES_MIB_MAX: u32 = 10_000;
const CAPSULES_DAYS_MAX: u32 = 365;

/// What the flags of `berth run` say; none where the flag is absent. Every one has an environment variable.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct RunFlags {
    /// The manifest [BERTH_CONFIG; default: plugins.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<OsString>,
    /// The data folder [BERTH_DATA; default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<OsString>,
    /// Address and port of the gateway [BERTH_LISTEN; default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<OsString>,
    /// A listener of its own for the admin API and the metrics [BERTH_ADMIN_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<OsString>,
    /// What is logged: error, warn, info, debug, trace, or directives as in `info,berth=debug` [BERTH_LOG; default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<OsString>,
    /// text or json [BERTH_LOG_FORMAT; default: text on a terminal, json otherwise]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<OsString>,
}

/// Everything `berth run` needs to know, judged. Nothing in it was checked against the network.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// The manifest's file.
    pub config: PathBuf,
    /// The data folder; may not exist yet.
    pub data: PathBuf,
    /// The gateway's address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Admin API and metrics on a listener of their own; none: admin routes on the gateway.
    pub admin_listen: Option<SocketAddr>,
    pub database: DatabaseUrl,
    pub cache: CacheUrl,
    pub queue: QueueUrl,
    /// Stands before every name in Redis and RabbitMQ, so that several installations can share them; empty: nothing does.
    pub namespace: String,
    pub master_key: MasterKey,
    /// None: kept in `<data>/operator.token`, made on first start.
    pub operator_token: Option<Hidden>,
    /// Per principal; 0 turns the limit off; none: the manifest's, else 600.
    pub rate_limit_per_minute: Option<u32>,
    /// What becomes of requests that cannot be counted because the cache is lost.
    pub without_cache: WithoutCache,
    /// How long the host goes on answering after it was told to stop, saying on `/ready` that it does: as long as a load
    /// balancer takes to notice.
    pub stop_delay: Duration,
    /// Failed calls that are kept to be played again.
    pub capsules: CapsuleSettings,
    /// Scheme and authority without a trailing slash, for links in mails and tokens.
    pub public_url: Option<String>,
    /// Origins that a browser may call from, as `https://app.example.com`.
    pub allowed_origins: Vec<String>,
    /// Load balancers whose word about the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    pub tls: Option<TlsFiles>,
    pub mail: Option<MailSettings>,
    /// Login providers by lower-case name.
    pub login_providers: BTreeMap<String, LoginProvider>,
    /// The collector of traces; none: nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// The share of requests that are traced, 0 to 1; none: all.
    pub otlp_sample: Option<f64>,
    /// The organization that the host's own lines, spans and figures belong to; none: they are not handed to any plugin.
    pub feed_organization: Option<FeedOrganization>,
    /// Directives of the log filter, judged.
    pub log: String,
    /// None: text on a terminal, JSON otherwise.
    pub log_format: Option<LogFormat>,
    /// Wins over `[host] direct_ports`.
    pub direct_ports: Option<bool>,
    /// Wins over `[host] trusted_keys`.
    pub trusted_keys: Option<Vec<TrustedKey>>,
}

/// `BERTH_DATABASE_URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseUrl {
    /// A file; its folder is made when it is missing.
    Sqlite(PathBuf),
    /// `postgres://…`, which may hold a password.
    Postgres(Hidden),
}

impl DatabaseUrl {
    /// As `Database::open` wants it. Never log it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.reveal().to_owned(),
        }
    }
}

/// `BERTH_CACHE_URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheUrl {
    /// In this process, bounded.
    Memory,
    /// `redis://…` or `rediss://…`.
    Redis(Hidden),
}

/// `BERTH_QUEUE_URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueUrl {
    /// On the host's database.
    Embedded,
    /// `amqp://…` or `amqps://…`.
    Amqp(Hidden),
}

/// `BERTH_CAPSULES`, `BERTH_CAPSULES_MIB` and `BERTH_CAPSULES_DAYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CapsuleSettings {
    /// The newest so many of each plugin; 0 keeps none.
    pub per_plugin: u32,
    /// All of this host together.
    pub mib: u32,
    /// How long each is kept.
    pub days: u32,
}

/// `BERTH_RATE_LIMIT_WITHOUT_CACHE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WithoutCache {
    /// They are let through.
    #[default]
    Open,
    /// They are refused with 503.
    Closed,
}

/// `BERTH_FEED_ORGANIZATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FeedOrganization {
    /// The operator organization, once there is one.
    Operator,
    /// The one with this id.
    Id(String),
}

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MasterKey {
    /// 64 hex characters in a file. `make` allows making it on first start: only the default place does.
    File { path: PathBuf, make: bool },
    /// 64 hex characters from the environment.
    Given(Hidden),
}

/// `BERTH_TLS_CERT` and `BERTH_TLS_KEY`; both files existed when the settings were judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `BERTH_SMTP_URL` and `BERTH_MAIL_FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailSettings {
    /// `smtp://` or `smtps://`, which may hold a password.
    pub url: Hidden,
    pub from: String,
}

/// `BERTH_OIDC_<NAME>_ISSUER`, `_CLIENT_ID` and `_CLIENT_SECRET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoginProvider {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Hidden,
}

/// A value that must not reach a log line: its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(String);

impl Hidden {
    /// Hides `value`.
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(hidden)")
    }
}

/// One thing wrong with the settings: the flag or variable, and a sentence about it. Never holds a secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub setting: String,
    pub sentence: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.setting, self.sentence)
    }
}

impl Settings {
    /// Judges flags and environment together.
    ///
    /// An empty variable counts as absent. Only `BERTH_…` variables are looked at; an unknown one is a fault.
    ///
    /// # Errors
    /// Every fault found, in the order of the specification's table.
    pub(crate) fn judge(
        flags: &RunFlags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader::new(flags, environment);
        let data = reader.path("BERTH_DATA").unwrap_or_else(|| PathBuf::from("./data"));
        let settings = Self {
            config: reader.path("BERTH_CONFIG").unwrap_or_else(|| PathBuf::from("plugins.toml")),
            listen: reader.address("BERTH_LISTEN").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3000))),
            admin_listen: reader.address("BERTH_ADMIN_LISTEN"),
            database: reader.database().unwrap_or_else(|| DatabaseUrl::Sqlite(data.join("berth.db"))),
            cache: reader.cache().unwrap_or(CacheUrl::Memory),
            queue: reader.queue().unwrap_or(QueueUrl::Embedded),
            namespace: reader.namespace().unwrap_or_default(),
            master_key: reader
                .master_key()
                .unwrap_or_else(|| MasterKey::File { path: data.join("master.key"), make: true }),
            operator_token: reader.operator_token(),
            rate_limit_per_minute: reader.number("BERTH_RATE_LIMIT_PER_MINUTE", RATE_LIMIT_PER_MINUTE_MAX),
            without_cache: reader.without_cache().unwrap_or_default(),
            stop_delay: Duration::from_secs(
                reader.number("BERTH_STOP_DELAY_SECONDS", STOP_DELAY_SECONDS_MAX).unwrap_or(0).into(),
            ),
            capsules: CapsuleSettings {
                per_plugin: reader.number("BERTH_CAPSULES", CAPSULES_MAX).unwrap_or(20),
                mib: reader.number("BERTH_CAPSULES_MIB", CAPSULES_MIB_MAX).unwrap_or(64),
                days: reader.number("BERTH_CAPSULES_DAYS", CAPSULES_DAYS_MAX).unwrap_or(7),
            },
            public_url: reader.web_url("BERTH_PUBLIC_URL"),
            allowed_origins: reader.origins(),
            trusted_proxies: reader.networks("BERTH_TRUSTED_PROXIES"),
            tls: reader.tls(),
            mail: reader.mail(),
            login_providers: reader.login_providers(),
            otlp_endpoint: reader.web_url("BERTH_OTLP_ENDPOINT"),
            otlp_sample: reader.share("BERTH_OTLP_SAMPLE"),
            feed_organization: reader.feed_organization(),
            log: reader.log_filter().unwrap_or_else(|| "info".to_owned()),
            log_format: reader.log_format(),
            direct_ports: reader.truth("BERTH_DIRECT_PORTS"),
            trusted_keys: reader.keys("BERTH_TRUSTED_KEYS"),
            data,
        };
        reader.finish().map(|()| settings)
    }

    /// The manifest's file alone, for judging it although the settings have faults.
    pub(crate) fn config_path(
        flags: &RunFlags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> PathBuf {
        Reader::new(flags, environment).path("BERTH_CONFIG").unwrap_or_else(|| PathBuf::from("plugins.toml"))
    }

    /// Where the operator's token lies when the environment gives none.
    pub(crate) fn operator_token_file(&self) -> PathBuf {
        self.data.join("operator.token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(variables: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
        judge_with(&RunFlags::default(), variables)
    }

    fn judge_with(flags: &RunFlags, variables: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
        Settings::judge(flags, variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
    }

    fn faults(variables: &[(&str, &str)]) -> Vec<String> {
        judge(variables).expect_err("a fault").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let settings = judge(&[("PATH", "/bin"), ("BERTH_LOG", "")]).expect("defaults");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(settings.database.url(), "sqlite:./data/berth.db");
        assert_eq!(settings.cache, CacheUrl::Memory);
        assert_eq!(settings.queue, QueueUrl::Embedded);
        assert_eq!(settings.master_key, MasterKey::File { path: "./data/master.key".into(), make: true });
        assert_eq!((settings.rate_limit_per_minute, settings.log.as_str()), (None, "info"));
        assert_eq!(settings.capsules, CapsuleSettings { per_plugin: 20, mib: 64, days: 7 });
        assert_eq!(settings.operator_token_file(), PathBuf::from("./data/operator.token"));
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let flags = RunFlags { listen: Some("127.0.0.1:0".into()), data: Some("/tmp/x".into()), ..RunFlags::default() };
        let settings = judge_with(&flags, &[("BERTH_LISTEN", "nonsense"), ("BERTH_DATA", "/tmp/y")]).expect("settings");
        assert_eq!(settings.listen.port(), 0);
        assert_eq!(settings.database.url(), "sqlite:/tmp/x/berth.db");
    }

    #[test]
    fn an_unknown_variable_names_the_nearest_known_one() {
        let found = faults(&[("BERTH_DATABSE_URL", "x"), ("BERTH_OIDC_ACME_ISSUR", "x"), ("BERTH_QWERTYUIOP", "1")]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("BERTH_DATABASE_URL")), "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("BERTH_OIDC_<NAME>_ISSUER")), "{found:?}");
        assert!(judge(&[("BERTH_TEST_POSTGRES_URL", "x"), ("BERTH_URL", "x"), ("BERTH_TOKEN", "x")]).is_ok());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let found = faults(&[
            ("BERTH_LISTEN", "3000"),
            ("BERTH_DATABASE_URL", "mysql://x"),
            ("BERTH_CACHE_URL", "memcached:"),
            ("BERTH_QUEUE_URL", "kafka://x"),
            ("BERTH_MASTER_KEY", "short-secret"),
            ("BERTH_RATE_LIMIT_PER_MINUTE", "-1"),
            ("BERTH_ALLOWED_ORIGINS", "*"),
            ("BERTH_TRUSTED_PROXIES", "10.0.0.1, the-proxy"),
            ("BERTH_TLS_CERT", "/nowhere/at/all.pem"),
            ("BERTH_SMTP_URL", "http://x"),
            ("BERTH_OIDC_ACME_ISSUER", "https://id.example.com"),
            ("BERTH_LOG", "berth=loud"),
            ("BERTH_LOG_FORMAT", "xml"),
            ("BERTH_OPERATOR_TOKEN", "abc"),
            ("BERTH_PUBLIC_URL", "example.com"),
            ("BERTH_NAMESPACE", "a b"),
            ("BERTH_RATE_LIMIT_WITHOUT_CACHE", "ajar"),
            ("BERTH_STOP_DELAY_SECONDS", "301"),
            ("BERTH_FEED_ORGANIZATION", "Engine Works"),
            ("BERTH_CAPSULES", "many"),
            ("BERTH_CAPSULES_MIB", "10001"),
            ("BERTH_CAPSULES_DAYS", "366"),
        ]);
        for name in [
            "BERTH_LISTEN",
            "BERTH_DATABASE_URL",
            "BERTH_CACHE_URL",
            "BERTH_QUEUE_URL",
            "BERTH_MASTER_KEY",
            "BERTH_RATE_LIMIT_PER_MINUTE",
            "BERTH_ALLOWED_ORIGINS",
            "BERTH_TRUSTED_PROXIES",
            "BERTH_TLS_CERT",
            "BERTH_TLS_KEY",
            "BERTH_SMTP_URL",
            "BERTH_MAIL_FROM",
            "BERTH_OIDC_ACME_CLIENT_ID",
            "BERTH_OIDC_ACME_CLIENT_SECRET",
            "BERTH_LOG",
            "BERTH_LOG_FORMAT",
            "BERTH_OPERATOR_TOKEN",
            "BERTH_PUBLIC_URL",
            "BERTH_NAMESPACE",
            "BERTH_RATE_LIMIT_WITHOUT_CACHE",
            "BERTH_STOP_DELAY_SECONDS",
            "BERTH_FEED_ORGANIZATION",
            "BERTH_CAPSULES",
            "BERTH_CAPSULES_MIB",
            "BERTH_CAPSULES_DAYS",
        ] {
            assert!(
                found.iter().any(|fault| fault.starts_with(&format!("{name}:"))),
                "{name} is missing in {found:#?}"
            );
        }
        assert!(!found.iter().any(|fault| fault.contains("short-secret")), "a secret reached a message: {found:?}");
    }

    #[test]
    fn the_servers_are_understood() {
        let settings = judge(&[
            ("BERTH_DATABASE_URL", "postgres://berth:pw@localhost/berth"),
            ("BERTH_CACHE_URL", "rediss://cache:6380"),
            ("BERTH_QUEUE_URL", "amqp://queue"),
            ("BERTH_NAMESPACE", "staging"),
            ("BERTH_RATE_LIMIT_WITHOUT_CACHE", "closed"),
            ("BERTH_STOP_DELAY_SECONDS", "5"),
            ("BERTH_MASTER_KEY", &"0a".repeat(32)),
            ("BERTH_RATE_LIMIT_PER_MINUTE", "0"),
            ("BERTH_ALLOWED_ORIGINS", "https://app.example.com, http://localhost:5173"),
            ("BERTH_PUBLIC_URL", "https://berth.example.com/"),
        ])
        .expect("settings");
        assert_eq!(settings.database, DatabaseUrl::Postgres(Hidden::new("postgres://berth:pw@localhost/berth")));
        assert!(matches!((&settings.cache, &settings.queue), (CacheUrl::Redis(_), QueueUrl::Amqp(_))));
        assert_eq!(settings.allowed_origins, ["https://app.example.com", "http://localhost:5173"]);
        assert_eq!(settings.public_url.as_deref(), Some("https://berth.example.com"));
        assert_eq!((settings.namespace.as_str(), settings.without_cache), ("staging", WithoutCache::Closed));
        assert_eq!(settings.stop_delay, Duration::from_secs(5));
        assert!(!format!("{settings:?}").contains("pw@"));
    }

    #[test]
    fn the_feed_goes_to_an_organization_by_its_id_or_to_the_operators() {
        let feed = |value| judge(&[("BERTH_FEED_ORGANIZATION", value)]).map(|settings| settings.feed_organization);
        assert_eq!(feed("operator"), Ok(Some(FeedOrganization::Operator)));
        let id = "01900000-0000-7000-8000-000000000000";
        assert_eq!(feed(id), Ok(Some(FeedOrganization::Id(id.to_owned()))));
        assert_eq!(feed(""), Ok(None));
        assert!(feed("mine").is_err());
    }

    #[test]
    fn trusted_keys_are_public_keys() {
        let [first, second] = [(); 2].map(|()| crate::signature::Signer::generate().public_key());
        let settings = judge(&[("BERTH_TRUSTED_KEYS", &format!("{first}, {second}"))]).expect("settings");
        assert_eq!(settings.trusted_keys.map(|keys| keys.len()), Some(2));
        for wrong in ["AAAA", ","] {
            let found = faults(&[("BERTH_TRUSTED_KEYS", wrong)]);
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }

    #[test]
    fn a_key_from_two_places_is_refused() {
        let found = faults(&[("BERTH_MASTER_KEY", &"0a".repeat(32)), ("BERTH_MASTER_KEY_FILE", "/tmp/key")]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
