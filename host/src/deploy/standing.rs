//! The manifest as it stands on this host: the file as it was last taken, and what was changed since while hosts ran.
//!
//! The newer word counts. A recorded change lies over the file's entry of its plugin until that entry says something else
//! than it did at the time of the change; then the file's entry counts again. Whatever is taken was judged whole before.

use std::sync::Arc;
use std::time::Instant;

use super::artifacts::digest_of;
use super::history::{Change, ChangeAction, Changes, History};
use super::{DeployError, SlotOptions};
use crate::capability::queue::QueueRoom;
use crate::database::Database;
use crate::plugins_file::{self, Laid, Manifest, ManifestFile};

/// How often a start looks again when other hosts record something at the same moment.
const ATTEMPTS_MAX: u32 = 10;
/// Who gives the file's entry its place again.
const HOST_ACTOR: &str = "host";

/// File and changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(super) file: Arc<ManifestFile>,
    pub(super) changes: Changes,
    /// When changes of another host are looked at again that could not be taken here.
    pub(super) again_at: Option<Instant>,
    /// Whether plugins listen on their own ports too.
    direct_ports: bool,
}

/// A change that was judged, and the manifest with it.
pub(super) struct Proposal {
    pub change: Change,
    pub plugins: Vec<SlotOptions>,
}

impl Standing {
    /// Lays what the database records over the file, and records for which plugins the file is newer. Answers the manifest
    /// that comes of it.
    ///
    /// # Errors
    /// `Faulty` when file and changes do not fit together; the database's own.
    pub(crate) async fn open(
        database: &Database,
        queue: &QueueRoom,
        file: Arc<ManifestFile>,
        direct_ports: bool,
    ) -> Result<(Self, Manifest), DeployError> {
        let history = History::new(database.clone(), queue.clone());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let changes = history.changes().await.map_err(DeployError::of_host_tables)?;
            let mut standing = Self { file: Arc::clone(&file), changes, again_at: None, direct_ports };
            let overtaken = standing.overtaken(&file);
            standing.forget(&overtaken);
            let manifest = standing.judge(&file, &standing.laid())?;
            match standing.record(&history, &overtaken).await {
                Ok(()) => {
                    standing.tell();
                    return Ok((standing, manifest));
                }
                Err(DeployError::Conflict(_)) if attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The changes that a file is newer than.
    pub(super) fn overtaken(&self, file: &ManifestFile) -> Vec<Change> {
        let is_overtaken = |change: &&Change| change.file_sha256 != digest_in(file, &change.plugin);
        let overtaken = self.changes.newest.iter().filter(is_overtaken);
        overtaken.map(|change| new_change(file, &change.plugin, ChangeAction::Release, None, HOST_ACTOR)).collect()
    }

    /// Takes changes out whose place the file has taken.
    pub(super) fn forget(&mut self, overtaken: &[Change]) {
        let is_newer = |change: &Change| overtaken.iter().any(|other| other.plugin == change.plugin);
        self.changes.newest.retain(|change| !is_newer(change));
    }

    /// Writes changes down and counts them.
    pub(super) async fn record(&mut self, history: &History, changes: &[Change]) -> Result<(), DeployError> {
        if !changes.is_empty() {
            self.changes.generation = history.record_changes(self.changes.generation, changes).await?;
        }
        Ok(())
    }

    /// Takes a change in the place of what was there of its plugin.
    pub(super) fn lay(&mut self, change: Change) {
        self.forget(std::slice::from_ref(&change));
        self.changes.newest.push(change);
    }

    /// Judges what would come of an entry in the place of the present one; none removes the plugin.
    ///
    /// # Errors
    /// `Faulty` with every fault.
    pub(super) fn propose(
        &self,
        plugin: &str,
        action: ChangeAction,
        entry: Option<&str>,
        actor: &str,
    ) -> Result<Proposal, DeployError> {
        let mut laid = self.laid();
        laid.retain(|other| other.plugin != plugin);
        // As it was sent, so that its lines are those of its author.
        laid.push(Laid { plugin: plugin.to_owned(), entry: entry.map(str::to_owned) });
        let manifest = self.judge(&self.file, &laid)?;
        let is_in_file = self.file.entry(plugin).is_some();
        let entry = entry.map(|entry| plugins_file::plain(plugin, entry, is_in_file)).transpose();
        let entry = entry.map_err(|fault| DeployError::Faulty(vec![fault]))?;
        let change = new_change(&self.file, plugin, action, entry, actor);
        Ok(Proposal { change, plugins: self.options(&manifest)? })
    }

    /// Judges a file with changes over it.
    pub(super) fn judge(&self, file: &Arc<ManifestFile>, laid: &[Laid]) -> Result<Manifest, DeployError> {
        Manifest::judge(file, laid).map_err(DeployError::Faulty)
    }

    /// What the slots are to be.
    pub(super) fn options(&self, manifest: &Manifest) -> Result<Vec<SlotOptions>, DeployError> {
        let options = manifest.plugins.iter().map(|entry| SlotOptions::new(entry, self.direct_ports));
        options.collect::<Result<_, _>>().map_err(DeployError::Invalid)
    }

    /// The changes as entries over a file.
    pub(super) fn laid(&self) -> Vec<Laid> {
        let laid = self.changes.newest.iter();
        laid.map(|change| Laid { plugin: change.plugin.clone(), entry: change.entry.clone() }).collect()
    }

    /// A plugin's present entry, as TOML.
    pub(super) fn entry(&self, plugin: &str) -> Option<&str> {
        match self.changes.newest.iter().find(|change| change.plugin == plugin) {
            Some(change) => change.entry.as_deref(),
            None => self.file.entry(plugin),
        }
    }

    /// Says where what runs differs from the file.
    pub(super) fn tell(&self) {
        for change in &self.changes.newest {
            tracing::info!(
                plugin = change.plugin,
                action = change.action.as_str(),
                actor = change.actor,
                "a change that was made at run time counts in the place of the manifest's entry"
            );
        }
    }
}

fn new_change(file: &ManifestFile, plugin: &str, action: ChangeAction, entry: Option<String>, actor: &str) -> Change {
    Change {
        id: uuid::Uuid::now_v7().to_string(),
        plugin: plugin.to_owned(),
        action,
        entry,
        file_sha256: digest_in(file, plugin),
        actor: actor.to_owned(),
    }
}

fn digest_in(file: &ManifestFile, plugin: &str) -> Option<String> {
    file.entry(plugin).map(|entry| digest_of(entry.as_bytes()))
}
