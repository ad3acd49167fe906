//! Which plugins have changed files. Editors write a file in several steps and tools write many files: a change counts when it
//! has been quiet for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::CommandError;

/// How long it must have been quiet.
const QUIET: Duration = Duration::from_millis(80);
/// The longest that changes are waited for that do not end.
const RESTLESS_MAX: Duration = Duration::from_secs(2);

/// Watches folders until it is dropped.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    bell: Notify,
    /// What is built is no source.
    target: PathBuf,
}

/// No larger than the plugins and folders that are watched, however many events come.
#[derive(Default)]
struct State {
    /// The plugins that are built from a folder.
    folders: BTreeMap<PathBuf, BTreeSet<String>>,
    changed: BTreeSet<String>,
    /// The first and the last change that nobody has taken yet.
    times: Option<(Instant, Instant)>,
}

impl Watch {
    /// Watches nothing yet. `target` is what is left out.
    ///
    /// # Errors
    /// When the system does not tell of changes.
    pub(super) fn new(target: &Path) -> Result<Self, CommandError> {
        let shared = Arc::new(Shared { state: Mutex::default(), bell: Notify::new(), target: target.to_path_buf() });
        let handler = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| handler.take(event))
            .map_err(|error| CommandError::failed(format!("files cannot be watched: {error}")))?;
        Ok(Self { watcher, shared })
    }

    /// Watches a folder and what is below it for a plugin.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) fn add(&mut self, plugin: &str, folder: &Path) -> Result<(), CommandError> {
        let is_new = {
            let mut state = self.shared.state.lock();
            let plugins = state.folders.entry(folder.to_path_buf()).or_default();
            plugins.insert(plugin.to_owned());
            plugins.len() == 1
        };
        if !is_new {
            return Ok(());
        }
        // The folder itself and each one in it, instead of everything below at once: what is built may lie there too.
        let mut watch = |folder: &Path, mode| {
            let failed = |error| CommandError::failed(format!("{} cannot be watched: {error}", folder.display()));
            self.watcher.watch(folder, mode).map_err(failed)
        };
        watch(folder, RecursiveMode::NonRecursive)?;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_hidden(&path) && path != self.shared.target {
                watch(&path, RecursiveMode::Recursive)?;
            }
        }
        Ok(())
    }

    /// Waits for the next change: the plugins it concerns, and when it began.
    pub(super) async fn next(&self) -> (BTreeSet<String>, Instant) {
        loop {
            let times = self.shared.state.lock().times;
            let Some((first, last)) = times else {
                self.shared.bell.notified().await;
                continue;
            };
            let due = (last + QUIET).min(first + RESTLESS_MAX);
            if Instant::now() < due {
                tokio::time::sleep_until(due.into()).await;
                continue;
            }
            let mut state = self.shared.state.lock();
            state.times = None;
            return (std::mem::take(&mut state.changed), first);
        }
    }
}

impl Shared {
    /// One event of the system.
    fn take(&self, event: notify::Result<Event>) {
        // What was missed may have been anything.
        let (is_lost, paths) = match event {
            Ok(event) if event.need_rescan() => (true, Vec::new()),
            Ok(event) if is_change(event.kind) => (false, event.paths),
            Ok(_) => return,
            Err(_) => (true, Vec::new()),
        };
        let mut state = self.state.lock();
        let state = &mut *state;
        let mut is_touched = is_lost;
        for (folder, plugins) in &state.folders {
            let is_inside = |path: &PathBuf| path.starts_with(folder) && !self.is_ignored(path);
            if is_lost || paths.iter().any(is_inside) {
                is_touched = true;
                state.changed.extend(plugins.iter().cloned());
            }
        }
        if is_touched {
            let now = Instant::now();
            state.times = Some((state.times.map_or(now, |(first, _)| first), now));
            self.bell.notify_one();
        }
    }

    fn is_ignored(&self, path: &Path) -> bool {
        path.starts_with(&self.target) || is_hidden(path)
    }
}

/// Reading a file is no change, and neither is its time of access.
fn is_change(kind: EventKind) -> bool {
    use notify::event::{MetadataKind, ModifyKind};
    match kind {
        EventKind::Modify(ModifyKind::Metadata(kind)) => !matches!(kind, MetadataKind::AccessTime),
        kind => kind.is_create() || kind.is_modify() || kind.is_remove(),
    }
}

/// What editors and tools keep for themselves.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') || name.ends_with('~') || name.ends_with(".swp")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_saved_file_concerns_who_is_built_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        for name in ["a/src", "b/src", "shared/src", "target/made"] {
            std::fs::create_dir_all(root.join(name)).expect("a folder");
        }
        let mut watch = Watch::new(&root.join("target")).expect("a watch");
        for (plugin, source) in [("a", "a"), ("b", "b"), ("a", "shared"), ("b", "shared")] {
            watch.add(plugin, &root.join(source)).expect("watched");
        }
        let changed = async |file: &str| {
            std::fs::write(root.join(file), "x").expect("written");
            let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("a change");
            next.0.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(changed("a/src/lib.rs").await, ["a"]);
        assert_eq!(changed("b/Cargo.toml").await, ["b"]);
        assert_eq!(changed("shared/src/lib.rs").await, ["a", "b"]);
        // What is no source comes first, and the next change is alone all the same.
        for file in ["a/.hidden", "a/src/lib.rs~", "target/made/x.rs"] {
            std::fs::write(root.join(file), "x").expect("written");
        }
        let _ = std::fs::read(root.join("b/Cargo.toml")).expect("read");
        assert_eq!(changed("a/src/other.rs").await, ["a"]);
    }

    #[test]
    fn a_lost_event_may_have_been_any() {
        let shared = Shared { state: Mutex::default(), bell: Notify::new(), target: PathBuf::from("/t") };
        shared.state.lock().folders.insert(PathBuf::from("/w/a"), BTreeSet::from(["a".to_owned()]));
        shared.take(Err(notify::Error::generic("full")));
        let state = shared.state.lock();
        assert!(state.changed.contains("a") && state.times.is_some());
    }
}
