//! Plays a capsule to a build: the engine as it is in a host, and behind its rooms nothing but the capsule.
//!
//! No port, no network and no store of anybody's: what the rooms stand on is a folder that goes when this is over, and no
//! call reaches it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;

use crate::bindings::consumer;
use crate::bindings::handler::Request;
use crate::capability::acting::ActingRoom;
use crate::capability::cache::CacheRoom;
use crate::capability::capsule::{Capsule, KeptSubject};
use crate::capability::database::DatabaseRoom;
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::capability::logging::{LogLine, LogRoom};
use crate::capability::mail::MailRoom;
use crate::capability::queue::{QueueOptions, QueueRoom};
use crate::capability::secrets::{MasterKey, Vault};
use crate::capability::tape::hide::read_bytes;
use crate::capability::tape::{Played, Tapes};
use crate::capability::{Plugin, Rooms, http_out::Egress};
use crate::database::{Database, DatabaseOptions, HOST_MIGRATIONS};
use crate::engine::{CallError, Engine, EngineOptions, PackedRequest};

/// A call has at least this long, whatever was left of its time when it was kept.
const TIME_MIN: Duration = Duration::from_millis(100);
/// Lines of the guest's that are told.
const LINES_TOLD: usize = 20;

/// What came of a replay.
pub(crate) struct Replayed {
    /// SHA-256 of the component.
    pub sha256: String,
    pub outcome: Outcome,
    pub played: Played,
    /// The last lines that the guest logged.
    pub lines: Vec<String>,
}

/// How the guest ended.
pub(crate) enum Outcome {
    /// It answered a request.
    Answered { status: u16, body: Vec<u8> },
    /// It has taken, put back or rejected a message, in words.
    Handled(String),
    /// It gave no answer.
    Failed(CallError),
}

/// Plays `capsule` to the build in `wasm`, with the limits and the time that the call had.
///
/// # Errors
/// One sentence: when the component is none or cannot be made ready, or the capsule has nothing that could be played.
pub(crate) async fn replay(capsule: &Capsule, wasm: Bytes) -> anyhow::Result<Replayed> {
    if matches!(capsule.subject, KeptSubject::TooLarge) {
        anyhow::bail!("the capsule does not hold what the call began with: it is too large to be kept");
    }
    let folder = tempfile::tempdir().context("a folder for the replay cannot be made")?;
    let player = Arc::new(capsule.player());
    let rooms = Arc::new(rooms(folder.path(), Tapes::Played(Arc::clone(&player))).await?);
    let logs = rooms.logging.clone();
    let engine = Engine::new(
        EngineOptions {
            compiled: folder.path().join("compiled"),
            cache_key: rand::random(),
            compiler: std::env::current_exe().context("the path of this program is unknown")?,
        },
        rooms,
    )?;
    let compiled = engine.compile(wasm).await?;
    let plugin = Arc::new(plugin(capsule));
    let name = Arc::clone(&plugin.name);
    // A fresh instance: what an older one had in memory, nobody has kept.
    let revision = engine.revision(&compiled, capsule.summary.revision, plugin, Isolation::Request).await?;
    let deadline = Instant::now() + Duration::from_millis(capsule.limits.time_ms).max(TIME_MIN);
    let call = capsule.call(deadline);
    let outcome = match (&capsule.subject, capsule.subject.delivery()) {
        (KeptSubject::Request { method, path, query, headers, body }, _) => {
            let request = Request {
                method: method.clone(),
                path: path.clone(),
                query: query.clone(),
                headers: headers.clone(),
                body: read_bytes(body).context("the capsule's body is malformed")?,
                request_id: capsule.summary.request_id.clone(),
            };
            match revision.handle(call, PackedRequest::of(request)).await {
                Ok(answer) => {
                    Outcome::Answered { status: answer.status().unwrap_or_default(), body: answer.body().to_vec() }
                }
                Err(error) => Outcome::Failed(error),
            }
        }
        (_, Some(delivery)) => match revision.consume(call, delivery).await {
            Ok(consumer::Outcome::Acknowledged) => Outcome::Handled("acknowledged it".to_owned()),
            Ok(consumer::Outcome::Retry(_)) => Outcome::Handled("wants it again later".to_owned()),
            Ok(consumer::Outcome::Rejected(reason)) => Outcome::Handled(format!("rejected it: {reason}")),
            Err(error) => Outcome::Failed(error),
        },
        _ => anyhow::bail!("the capsule's message is malformed"),
    };
    if let Outcome::Failed(CallError::NotExported(what)) = &outcome {
        anyhow::bail!("this build does not export {what}, by which the call was made");
    }
    let kept = logs.follow(&name, None).kept;
    let lines = kept.iter().rev().take(LINES_TOLD).rev().map(|line| told(line)).collect();
    Ok(Replayed { sha256: compiled.digest.as_ref().to_owned(), outcome, played: player.played(), lines })
}

fn told(line: &LogLine) -> String {
    let fields = line.fields.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{} {}{}", line.level, line.message, fields.collect::<String>())
}

/// The plugin as it was, with every interface there is: what it may do, the capsule decides.
fn plugin(capsule: &Capsule) -> Plugin {
    let all = || vec!["*".to_owned()];
    Plugin {
        name: capsule.summary.plugin.as_str().into(),
        grant: Grant {
            tables: vec!["replay_".to_owned()],
            cache: true,
            publish: vec!["#".to_owned()],
            consume: vec!["#".to_owned()],
            call: all(),
            outbound: all(),
            outbound_private: Vec::new(),
            secrets: true,
            mail: true,
            act_for_users: true,
            serve_as_members: Vec::new(),
        },
        limits: Limits {
            memory_mib: capsule.limits.memory_mib,
            request_timeout: Duration::from_millis(capsule.limits.time_ms).max(TIME_MIN),
            ..Limits::default()
        },
        config: capsule.config.clone(),
    }
}

async fn rooms(folder: &std::path::Path, tapes: Tapes) -> anyhow::Result<Rooms> {
    let url = format!("sqlite:{}", folder.join("replay.db").display());
    let database = Database::open(&url, DatabaseOptions::default()).await?;
    database.migrate("host", HOST_MIGRATIONS).await?;
    let queue = QueueRoom::open(database.clone(), QueueOptions::default()).await?;
    let key = MasterKey::load_or_create(&folder.join("replay.key"))?;
    Ok(Rooms {
        cache: CacheRoom::open_in("memory:", "")?,
        database: DatabaseRoom::new(database.clone(), Arc::new(queue.clone())),
        queue,
        secrets: Vault::open_with(database, key).await?,
        logging: LogRoom::default(),
        mail: MailRoom::unconfigured(),
        acting: ActingRoom::default(),
        http_out: Arc::new(Egress::default()),
        tapes,
    })
}
