//! What everything stands on: the database with its host tables, and the rooms over the backends that the settings name.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::data::{self, OperatorToken};
use crate::accounts::{self, Accounts, AccountsOptions, ProviderOptions};
use crate::capability::acting::ActingRoom;
use crate::capability::cache::CacheRoom;
use crate::capability::capsule::{Keeper, KeeperOptions};
use crate::capability::database::DatabaseRoom;
use crate::capability::logging::LogRoom;
use crate::capability::mail::MailRoom;
use crate::capability::queue::{QueueOptions, QueueRoom};
use crate::capability::secrets::{self, Vault};
use crate::capability::tape::Tapes;
use crate::capability::{Rooms, http_out::Egress};
use crate::database::{Database, DatabaseOptions, HOST_MIGRATIONS};
use crate::settings::{CacheUrl, DatabaseUrl, LoginProvider, MasterKey, QueueUrl, Settings};
use crate::tasks::Tasks;

/// Seconds of a day.
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// The owner of the host's own tables in the ledger of migrations.
const HOST_OWNER: &str = "host";

/// Database and rooms, open and migrated.
pub(super) struct Foundations {
    pub database: Database,
    /// Authenticates compiled components: derived from the master key, so that a copied cache is worthless elsewhere.
    pub compiled_key: [u8; 32],
    pub rooms: Arc<Rooms>,
}

impl Foundations {
    /// Opens everything that the settings name.
    ///
    /// # Errors
    /// One sentence that names the setting that cannot be used.
    pub(super) async fn open(settings: &Settings, tasks: &Tasks) -> anyhow::Result<Self> {
        let database = Database::open(&settings.database.url(), DatabaseOptions::default())
            .await
            .context("BERTH_DATABASE_URL: the database cannot be opened")?;
        database.migrate(HOST_OWNER, HOST_MIGRATIONS).await.context("the host's tables cannot be made")?;
        let master = master_key(settings)?;
        let compiled_key = master.derive("compiled components")?;
        let vault = Vault::open_with(database.clone(), master).await?;
        let cache = match &settings.cache {
            CacheUrl::Memory => CacheRoom::open_in("memory:", ""),
            CacheUrl::Redis(url) => CacheRoom::judge(url.reveal())
                .await
                .and_then(|()| CacheRoom::open_in(url.reveal(), &settings.namespace)),
        }
        .context("BERTH_CACHE_URL: the cache cannot be opened")?;
        let queue = match &settings.queue {
            QueueUrl::Embedded => QueueRoom::open(database.clone(), QueueOptions::default()).await,
            QueueUrl::Amqp(url) => {
                let namespace = match settings.namespace.as_str() {
                    "" => String::new(),
                    name => format!("{name}."),
                };
                QueueRoom::open_rabbitmq(database.clone(), url.reveal(), &namespace, QueueOptions::default()).await
            }
        }
        .context("BERTH_QUEUE_URL: the queue cannot be opened")?;
        let mail = match &settings.mail {
            Some(mail) => MailRoom::smtp(mail.url.reveal(), &mail.from).context("BERTH_SMTP_URL")?,
            None => MailRoom::unconfigured(),
        };
        let rooms = Rooms {
            cache,
            database: DatabaseRoom::new(database.clone(), Arc::new(queue.clone())),
            queue,
            secrets: vault,
            logging: LogRoom::default(),
            mail,
            acting: ActingRoom::default(),
            http_out: Arc::new(Egress::default()),
            tapes: tapes(settings, tasks)?,
        };
        Ok(Self { database, compiled_key, rooms: Arc::new(rooms) })
    }

    /// Opens the main app on top.
    pub(super) async fn accounts(&self, settings: &Settings, token: &OperatorToken) -> anyhow::Result<Arc<Accounts>> {
        let foundations = accounts::Foundations {
            database: self.database.clone(),
            cache: self.rooms.cache.clone(),
            queue: self.rooms.queue.clone(),
            vault: self.rooms.secrets.clone(),
            mail: self.rooms.mail.clone(),
        };
        let mut options = AccountsOptions {
            operator_token: Some(token.value.clone()),
            public_url: settings.public_url.clone(),
            allowed_origins: settings.allowed_origins.clone(),
            login_providers: login_providers(settings),
            cookies_secure: settings.tls.is_some()
                || settings.public_url.as_deref().is_some_and(|url| url.starts_with("https:")),
            ..AccountsOptions::default()
        };
        if settings.rate_limit_per_minute == Some(0) {
            options.logins_per_quarter_hour = 0;
        }
        Accounts::open(foundations, options).await.context("the main app cannot be opened")
    }
}

/// Whether calls are kept that fail, and where.
fn tapes(settings: &Settings, tasks: &Tasks) -> anyhow::Result<Tapes> {
    let capsules = settings.capsules;
    let options = KeeperOptions {
        folder: settings.data.join(data::CAPSULES),
        per_plugin: capsules.per_plugin as usize,
        bytes_max: u64::from(capsules.mib) << 20,
        kept: Duration::from_secs(u64::from(capsules.days) * DAY_SECONDS),
    };
    if capsules.per_plugin == 0 || capsules.mib == 0 || capsules.days == 0 {
        return Ok(Tapes::Off);
    }
    Ok(Tapes::Kept(Keeper::start(options, tasks).context("BERTH_DATA: the folder of capsules cannot be made")?))
}

fn login_providers(settings: &Settings) -> Vec<ProviderOptions> {
    let provider = |(name, provider): (&String, &LoginProvider)| ProviderOptions {
        name: name.clone(),
        issuer: provider.issuer.clone(),
        client_id: provider.client_id.clone(),
        client_secret: provider.client_secret.reveal().to_owned(),
    };
    settings.login_providers.iter().map(provider).collect()
}

fn master_key(settings: &Settings) -> anyhow::Result<secrets::MasterKey> {
    Ok(match &settings.master_key {
        MasterKey::Given(key) => secrets::MasterKey::parse(key.reveal()).context("BERTH_MASTER_KEY")?,
        MasterKey::File { path, make } => {
            if !make && !path.exists() {
                anyhow::bail!("BERTH_MASTER_KEY_FILE: {} does not exist", path.display());
            }
            secrets::MasterKey::load_or_create(path).context("BERTH_MASTER_KEY_FILE")?
        }
    })
}

/// What stands behind the database room, without passwords.
pub(super) fn database_name(settings: &Settings) -> String {
    match &settings.database {
        DatabaseUrl::Sqlite(path) => format!("SQLite in {}", path.display()),
        DatabaseUrl::Postgres(_) => "PostgreSQL".into(),
    }
}

/// What stands behind the cache room.
pub(super) fn cache_name(settings: &Settings) -> &'static str {
    match settings.cache {
        CacheUrl::Memory => "in this process",
        CacheUrl::Redis(_) => "Redis",
    }
}

/// What stands behind the queue room.
pub(super) fn queue_name(settings: &Settings) -> &'static str {
    match settings.queue {
        QueueUrl::Embedded => "embedded, on the database",
        QueueUrl::Amqp(_) => "RabbitMQ",
    }
}
