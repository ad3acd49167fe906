//! Filling the slots when the host starts: what the database records, or the manifest's files.
//!
//! All plugins at once, and each for itself: one that cannot be loaded answers 503 and stops no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Candidate, DeployOptions, Deployer, Turn};
use crate::deploy::artifacts::{digest_of, read_file};
use crate::deploy::history::{Action, Line, Origin, Pointer};
use crate::deploy::verify::Depth;
use crate::deploy::{DeployError, Foundry, Slot, SlotState};
use crate::signature::SIGNATURE_CHARS_MAX;

/// Who deploys from a file.
pub(super) const HOST_ACTOR: &str = "host";

/// The manifest's component file, as it is now.
struct File {
    bytes: Bytes,
    digest: String,
}

impl<F: Foundry> Deployer<F> {
    /// Loads every plugin. Answers when each of them serves or has failed.
    ///
    /// # Errors
    /// Only when the database cannot say which builds are to serve.
    pub(crate) async fn start(&self) -> Result<(), DeployError> {
        let mut pointers = self.inner.history.pointers().await.map_err(DeployError::of_host_tables)?;
        let slots = self.inner.registry.slots();
        let loads = slots.into_iter().map(|slot| {
            let pointer = pointers.remove(&**slot.name());
            let this = self.clone();
            tokio::spawn(async move { this.load(slot, pointer).await })
        });
        for load in futures_util::future::join_all(loads).await {
            load.map_err(|error| DeployError::Internal(error.into()))?;
        }
        let this = self.clone();
        self.inner.drains.spawn(async move {
            this.tidy_components().await;
            this.compile_ahead().await;
        });
        Ok(())
    }

    async fn load(&self, slot: Arc<Slot<F::Revision>>, pointer: Option<Pointer>) {
        match self.turn_for(Arc::clone(&slot)) {
            Ok(turn) => self.load_in(&turn, pointer).await,
            // Somebody deploys already: nothing is left to load.
            Err(error) => tracing::warn!(plugin = %slot.name(), error = %error, "a plugin was not loaded"),
        }
    }

    /// Fills one empty slot.
    pub(super) async fn load_in(&self, turn: &Turn<F>, mut pointer: Option<Pointer>) {
        let slot = &turn.slot;
        let file = self.manifest_file(turn).await;
        if let Some(file) = file.as_ref().filter(|file| is_new(file, pointer.as_ref())) {
            match self.deploy_file(turn, file).await {
                Ok(()) => return,
                // Another host took its file first, mostly the same one; what it recorded serves.
                Err(DeployError::Conflict(_)) => {
                    pointer = self.inner.history.pointer(slot.name()).await.ok().flatten().or(pointer);
                }
                // The recorded build is better than none.
                Err(error) if pointer.is_none() => return slot.fail(SlotState::Failed, &error.to_string()),
                Err(_) => {}
            }
        }
        let Some(pointer) = pointer else {
            let path = slot.options().component.as_ref().map(|path| path.display().to_string());
            let place = path.map_or_else(String::new, |path| format!(" and there is no component at {path}"));
            return slot.fail(SlotState::Missing, &format!("nothing was deployed{place}"));
        };
        if let Err(error) = self.load_recorded(turn, &pointer, file.as_ref()).await {
            slot.fail(SlotState::Failed, &error.to_string());
        }
    }

    async fn manifest_file(&self, turn: &Turn<F>) -> Option<File> {
        let path = turn.slot.options().component.clone()?;
        let bytes_max = self.inner.options.component_bytes_max;
        match read_file(path.clone(), bytes_max).await {
            Ok(bytes) => bytes.map(|bytes| File { digest: digest_of(&bytes), bytes }),
            Err(error) => {
                tracing::warn!(plugin = %turn.slot.name(), path = %path.display(), %error, "a component file cannot be read");
                None
            }
        }
    }

    async fn deploy_file(&self, turn: &Turn<F>, file: &File) -> Result<(), DeployError> {
        let candidate = Candidate {
            bytes: file.bytes.clone(),
            digest: file.digest.clone(),
            origin: Origin::File,
            // What the manifest names is wanted whole; its file was there before the host, and so were its readers.
            options: DeployOptions {
                watch: Some(Duration::ZERO),
                signature: self.signature_beside(turn).await,
                ..DeployOptions::by(HOST_ACTOR)
            },
        };
        self.deploy_candidate(turn, candidate).await.map(drop)
    }

    /// What lies in `<component>.sig`, where signatures are asked for at all.
    async fn signature_beside(&self, turn: &Turn<F>) -> Option<String> {
        if self.inner.options.trusted_keys.is_empty() {
            return None;
        }
        let mut path = turn.slot.options().component.clone()?.into_os_string();
        path.push(".sig");
        // One that is absent, too large or unreadable is none, and a build without one is refused.
        let bytes = read_file(path.into(), SIGNATURE_CHARS_MAX).await.ok().flatten()?;
        std::str::from_utf8(&bytes).ok().map(|text| text.trim().to_owned())
    }

    /// Loads the build that the database records, under its old number. Only a failure is written down.
    async fn load_recorded(&self, turn: &Turn<F>, pointer: &Pointer, file: Option<&File>) -> Result<(), DeployError> {
        let began = Instant::now();
        let same_file = file.filter(|file| file.digest == pointer.sha256);
        let prepared = async {
            let stored = self.stored(turn, &pointer.sha256).await?.or_else(|| same_file.map(|file| file.bytes.clone()));
            let bytes = stored.ok_or_else(|| {
                DeployError::Unavailable(
                    format!("the component of revision {} is not kept here", pointer.revision),
                    None,
                )
            })?;
            self.prepare(turn, bytes, &pointer.sha256, pointer.revision, Depth::AgainstManifest).await
        };
        match prepared.await {
            Ok(prepared) => {
                self.put_in_front(turn, &prepared.options, &prepared.revision);
                self.begin_watch(&turn.slot, &prepared.revision, pointer.watch.as_ref());
                self.restore_trial(turn).await;
                if same_file.is_some() && pointer.file_sha256.as_deref() != Some(pointer.sha256.as_str()) {
                    self.inner.history.record_file(turn.slot.name(), &pointer.sha256).await;
                }
                tracing::info!(plugin = %turn.slot.name(), revision = pointer.revision, sha256 = pointer.sha256, "a build serves");
                Ok(())
            }
            Err(error) => {
                let mut line = Line::new(turn.slot.name(), Action::Start, &pointer.sha256, HOST_ACTOR.to_owned());
                line.previous_revision = Some(pointer.revision);
                Err(self.fail(turn, line, began, error).await)
            }
        }
    }
}

/// Whether the manifest's file is a build that this database has not taken from it yet and that does not serve already.
fn is_new(file: &File, pointer: Option<&Pointer>) -> bool {
    pointer.is_none_or(|pointer| {
        pointer.file_sha256.as_deref() != Some(file.digest.as_str()) && pointer.sha256 != file.digest
    })
}
