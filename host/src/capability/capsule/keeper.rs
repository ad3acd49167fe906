//! Where capsules lie: a folder of this host, private to it, with the newest few of each plugin and not more than so many
//! bytes, for so many days.
//!
//! A failing call only hands its draft over, at a pace that a build which fails at every request cannot outrun; writing
//! happens elsewhere. Capsules of other hosts lie with those.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{CAPSULE_BYTES_MAX, Draft, Summary};
use crate::tasks::Tasks;

/// Drafts that wait to be written; one more is not kept.
const WAITING_MAX: usize = 16;
/// Capsules of one plugin that may follow each other at once, and how long until there may be one more.
const AT_ONCE: u32 = 10;
const PACE: Duration = Duration::from_millis(500);
/// How often what is too old goes.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// What a file's name ends in.
const EXTENSION: &str = ".json";
/// What is being written.
const INCOMING: &str = ".incoming-";
/// A plugin's name and an id in a file's name.
const SEPARATOR: &str = "--";

/// What is kept, where and for how long.
#[derive(Clone, Debug)]
pub(crate) struct KeeperOptions {
    pub folder: PathBuf,
    /// The newest so many of each plugin.
    pub per_plugin: usize,
    /// All of them together.
    pub bytes_max: u64,
    pub kept: Duration,
}

/// Keeps capsules.
pub(crate) struct Keeper {
    options: KeeperOptions,
    sender: mpsc::Sender<Draft>,
    paces: Mutex<HashMap<Arc<str>, Pace>>,
}

/// How many capsules a plugin may leave at once.
struct Pace {
    left: u32,
    since: Instant,
}

/// A capsule's file.
struct Kept {
    path: PathBuf,
    plugin: String,
    id: String,
    bytes: u64,
    at: SystemTime,
}

impl Keeper {
    /// Makes the folder, and starts to keep.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn start(options: KeeperOptions, tasks: &Tasks) -> io::Result<Arc<Self>> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.folder)?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let keeper = Arc::new(Self { options, sender, paces: Mutex::default() });
        let options = keeper.options.clone();
        tasks.supervise("capsules", move |stop| {
            let (receiver, options) = (Arc::clone(&receiver), options.clone());
            async move {
                let mut receiver = receiver.lock().await;
                loop {
                    let options = options.clone();
                    let draft = tokio::select! {
                        () = stop.cancelled() => return,
                        draft = tokio::time::timeout(LOOK_EVERY, receiver.recv()) => match draft {
                            Ok(Some(draft)) => Some(draft),
                            Ok(None) => return,
                            Err(_) => None,
                        },
                    };
                    let written = tokio::task::spawn_blocking(move || {
                        if let Some(draft) = draft {
                            write(&options.folder, draft)?;
                        }
                        prune(&options)
                    });
                    match written.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::warn!(%error, "a capsule was not kept"),
                        Err(error) => tracing::error!(%error, "a capsule could not be made"),
                    }
                }
            }
        });
        Ok(keeper)
    }

    /// Takes a failed call, unless there are too many or it has no draft; then it is as if nothing had been kept.
    pub(crate) fn offer(&self, plugin: &Arc<str>, draft: impl FnOnce(Arc<str>) -> Option<Draft>) -> Option<Arc<str>> {
        let permit = self.sender.try_reserve().ok()?;
        let mut paces = self.paces.lock();
        let pace = paces.entry(Arc::clone(plugin)).or_insert_with(|| Pace { left: AT_ONCE, since: Instant::now() });
        let may = pace.take(Instant::now());
        drop(paces);
        if !may {
            return None;
        }
        let id: Arc<str> = uuid::Uuid::now_v7().to_string().into();
        permit.send(draft(Arc::clone(&id))?);
        Some(id)
    }

    /// The capsules of this host, or of one plugin, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) async fn list(&self, plugin: Option<&str>) -> io::Result<Vec<Summary>> {
        let (folder, plugin) = (self.options.folder.clone(), plugin.map(str::to_owned));
        blocking(move || {
            let mut files = files(&folder)?;
            files.retain(|file| plugin.as_ref().is_none_or(|plugin| file.plugin == *plugin));
            // One that cannot be read has gone meanwhile.
            Ok(files
                .iter()
                .rev()
                .filter_map(|file| serde_json::from_slice(&std::fs::read(&file.path).ok()?).ok())
                .collect())
        })
        .await
    }

    /// A capsule as it is written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn load(&self, id: &str) -> io::Result<Option<Vec<u8>>> {
        let (folder, id) = (self.options.folder.clone(), id.to_owned());
        blocking(move || {
            let file = files(&folder)?.into_iter().find(|file| file.id == id);
            match file {
                Some(file) if file.bytes <= CAPSULE_BYTES_MAX as u64 => std::fs::read(&file.path).map(Some),
                _ => Ok(None),
            }
        })
        .await
    }

    /// Removes one; false when there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) async fn remove(&self, id: &str) -> io::Result<bool> {
        let (folder, id) = (self.options.folder.clone(), id.to_owned());
        blocking(move || match files(&folder)?.into_iter().find(|file| file.id == id) {
            Some(file) => std::fs::remove_file(&file.path).map(|()| true),
            None => Ok(false),
        })
        .await
    }
}

impl Pace {
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.since).as_millis() / PACE.as_millis();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(AT_ONCE)).min(AT_ONCE);
            self.since = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

fn write(folder: &Path, draft: Draft) -> io::Result<()> {
    let target = folder.join(format!("{}{SEPARATOR}{}{EXTENSION}", draft.plugin.name, draft.id));
    let text = serde_json::to_vec(&draft.capsule()).map_err(io::Error::other)?;
    // The file is the host's alone from its beginning.
    let mut file = tempfile::Builder::new().prefix(INCOMING).tempfile_in(folder)?;
    file.write_all(&text)?;
    file.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

/// Removes what is too much, the oldest first, and what is too old.
fn prune(options: &KeeperOptions) -> io::Result<()> {
    let files = files(&options.folder)?;
    let mut of_plugin: HashMap<&str, usize> = HashMap::new();
    let mut bytes = 0_u64;
    let now = SystemTime::now();
    // The newest first.
    for file in files.iter().rev() {
        let count = of_plugin.entry(&file.plugin).or_default();
        let is_old = now.duration_since(file.at).is_ok_and(|age| age > options.kept);
        let total = bytes.saturating_add(file.bytes);
        if is_old || *count >= options.per_plugin || total > options.bytes_max {
            std::fs::remove_file(&file.path)?;
            continue;
        }
        *count += 1;
        bytes = total;
    }
    Ok(())
}

/// The capsules of a folder, the oldest first: their ids begin with the time.
fn files(folder: &Path) -> io::Result<Vec<Kept>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.rsplit_once(SEPARATOR));
        let (Some((plugin, id)), Ok(metadata)) = (parts, entry.metadata()) else { continue };
        files.push(Kept {
            path: entry.path(),
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            bytes: metadata.len(),
            at: metadata.modified()?,
        });
    }
    files.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(files)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::draft;
    use super::*;

    fn options(folder: &Path) -> KeeperOptions {
        let kept = Duration::from_secs(60);
        KeeperOptions { folder: folder.join("capsules"), per_plugin: 3, bytes_max: 1 << 20, kept }
    }

    fn fill(options: &KeeperOptions, plugin: &str, count: usize, body: &str) {
        for _ in 0..count {
            write(&options.folder, draft(plugin, body)).unwrap();
        }
    }

    fn plugins(options: &KeeperOptions) -> Vec<String> {
        files(&options.folder).unwrap().into_iter().map(|file| file.plugin).collect()
    }

    #[tokio::test]
    async fn capsules_are_private_files_that_are_listed_read_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (options, tasks) = (options(folder.path()), Tasks::new());
        let keeper = Keeper::start(options.clone(), &tasks).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&options.folder), 0o700);
        let plugin: Arc<str> = "shop".into();
        let id = keeper.offer(&plugin, |id| Some(Draft { id, ..draft("shop", "") })).unwrap();
        while keeper.list(None).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(mode(&files(&options.folder).unwrap()[0].path), 0o600);
        assert_eq!(keeper.list(Some("shop")).await.unwrap()[0].id, *id);
        assert!(keeper.list(Some("other")).await.unwrap().is_empty());
        assert!(keeper.load(&id).await.unwrap().is_some() && keeper.load("../x").await.unwrap().is_none());
        assert!(keeper.remove(&id).await.unwrap() && !keeper.remove(&id).await.unwrap());
        tasks.stop(Duration::from_secs(5)).await;
    }

    #[test]
    fn the_newest_of_each_plugin_stay_within_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        std::fs::create_dir(&options.folder).unwrap();
        fill(&options, "shop", 5, "");
        fill(&options, "cafe", 2, "");
        let newest = files(&options.folder).unwrap().pop().unwrap().id;
        std::fs::write(options.folder.join("notes.txt"), "somebody's").unwrap();
        prune(&options).unwrap();
        assert_eq!(plugins(&options), ["shop", "shop", "shop", "cafe", "cafe"]);
        options.bytes_max = files(&options.folder).unwrap().iter().map(|file| file.bytes).max().unwrap() + 10;
        prune(&options).unwrap();
        let left = files(&options.folder).unwrap();
        assert_eq!((left.len(), &left[0].id), (1, &newest), "the newest of all");
        options.kept = Duration::ZERO;
        prune(&options).unwrap();
        assert!(plugins(&options).is_empty() && options.folder.join("notes.txt").exists());
    }

    #[test]
    fn a_plugin_that_always_fails_is_kept_at_a_pace() {
        let now = Instant::now();
        let mut pace = Pace { left: AT_ONCE, since: now };
        assert_eq!((0..100).filter(|_| pace.take(now)).count(), AT_ONCE as usize);
        assert!(pace.take(now + PACE) && !pace.take(now + PACE));
        assert_eq!((0..100).filter(|_| pace.take(now + PACE * 1_000)).count(), AT_ONCE as usize);
    }
}
