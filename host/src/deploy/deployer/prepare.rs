//! From bytes to a build that could serve, and the switch to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{COMPILED_KEPT, Deployer, Switched, Turn, milliseconds};
use crate::bindings::lifecycle::Dialect;
use crate::database::{self, DatabaseError, Migration};
use crate::deploy::consent::Changes;
use crate::deploy::drain::Draining;
use crate::deploy::history::Line;
use crate::deploy::verify::{Depth, verify};
use crate::deploy::watch::RecordedWatch;
use crate::deploy::{Build, DeployError, DeployReport, Foundry, MigrationPlan, SlotOptions};

/// A build that is verified, migrated, warm and ready.
pub(super) struct Prepared<R> {
    pub revision: Arc<R>,
    pub options: Arc<SlotOptions>,
    /// Migrations that were applied for it.
    pub migrations: Vec<String>,
    /// How it differs from the build before it; none where nobody is asked: for builds that were deployed before.
    pub changes: Option<Changes>,
}

/// A build that is linked, described and verified, and for which nothing has been changed yet.
pub(super) struct Assembled<F: Foundry> {
    pub revision: Arc<F::Revision>,
    pub options: Arc<SlotOptions>,
    compiled: F::Compiled,
}

impl<F: Foundry> Deployer<F> {
    /// Takes a component through every step before the switch. Nothing that serves is touched.
    pub(super) async fn prepare(
        &self,
        turn: &Turn<F>,
        bytes: Bytes,
        digest: &str,
        number: i64,
        depth: Depth,
    ) -> Result<Prepared<F::Revision>, DeployError> {
        self.prepare_for(turn, turn.slot.options(), bytes, digest, number, depth).await
    }

    /// The same, under settings that the slot may not have yet.
    pub(super) async fn prepare_for(
        &self,
        turn: &Turn<F>,
        options: Arc<SlotOptions>,
        bytes: Bytes,
        digest: &str,
        number: i64,
        depth: Depth,
    ) -> Result<Prepared<F::Revision>, DeployError> {
        let assembled = self.assemble(turn, options, bytes, digest, number, depth).await?;
        self.make_ready(turn, digest, assembled).await
    }

    /// The steps that change nothing: compile, link, describe, verify.
    pub(super) async fn assemble(
        &self,
        turn: &Turn<F>,
        options: Arc<SlotOptions>,
        bytes: Bytes,
        digest: &str,
        number: i64,
        depth: Depth,
    ) -> Result<Assembled<F>, DeployError> {
        let compiled = self.compile(turn, bytes, digest).await?;
        let foundry = &self.inner.foundry;
        let assembling = foundry.revision(&compiled, number, Arc::clone(&options.plugin), options.isolation);
        let revision = self.in_time("instantiating and describing it", assembling).await??;
        verify(&options, revision.exports(), revision.description().map(|described| &**described), depth)
            .map_err(DeployError::Invalid)?;
        Ok(Assembled { revision, options, compiled })
    }

    /// The steps after which it can serve: migrate, warm, ask whether it is ready.
    pub(super) async fn make_ready(
        &self,
        turn: &Turn<F>,
        digest: &str,
        assembled: Assembled<F>,
    ) -> Result<Prepared<F::Revision>, DeployError> {
        let Assembled { revision, options, compiled } = assembled;
        let migrations = self.migrate(&options, &revision).await?;
        self.in_time("warming it", revision.warm(self.inner.options.warm_instances)).await??;
        self.in_time("its `ready`", revision.ready())
            .await?
            .map_err(|reason| DeployError::Invalid(format!("it is not ready: {}", plain(&reason))))?;
        self.keep_compiled(turn, digest, compiled);
        Ok(Prepared { revision, options, migrations, changes: None })
    }

    async fn compile(&self, turn: &Turn<F>, bytes: Bytes, digest: &str) -> Result<F::Compiled, DeployError> {
        let kept = turn.bench.compiled.lock().iter().find(|(known, _)| known == digest).map(|(_, code)| code.clone());
        if let Some(compiled) = kept {
            return Ok(compiled);
        }
        self.compile_or_fetch(bytes, digest).await
    }

    /// Compiles a component, unless another host has done so.
    pub(super) async fn compile_or_fetch(&self, bytes: Bytes, digest: &str) -> Result<F::Compiled, DeployError> {
        let inner = &self.inner;
        let is_new = inner.cluster.components.is_shared() && !inner.foundry.is_compiled(digest);
        let is_fetched = is_new && self.fetch_machine_code(digest).await;
        // What was fetched is only loaded, unless it cannot be: then it is compiled after all.
        let permit = inner.compilations.acquire().await.map_err(|error| DeployError::Internal(error.into()))?;
        let compiled = inner.foundry.compile(bytes).await?;
        drop(permit);
        if is_new
            && !is_fetched
            && let Some(sealed) = inner.foundry.machine_code(digest).await
        {
            let name = inner.foundry.machine_code_name(digest);
            if let Err(error) = inner.cluster.components.store_code(&name, &sealed).await {
                tracing::warn!(digest, error = &error as &dyn std::error::Error, "other hosts must compile it too");
            }
        }
        Ok(compiled)
    }

    /// Puts what another host compiled into the engine's cache; says whether it did. Nothing that goes wrong here costs more
    /// than a compilation.
    async fn fetch_machine_code(&self, digest: &str) -> bool {
        let foundry = &self.inner.foundry;
        let (components, name) = (&self.inner.cluster.components, foundry.machine_code_name(digest));
        let sealed = match components.load_code(&name).await {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(digest, error = &error as &dyn std::error::Error, "machine code cannot be fetched");
                return false;
            }
        };
        match foundry.accept_machine_code(digest, sealed).await {
            Ok(()) => {
                tracing::info!(digest, "took machine code that another host compiled");
                true
            }
            Err(error) => {
                tracing::warn!(digest, %error, "machine code of another host is not used");
                // What is compiled now takes its place.
                if let Err(error) = components.remove_code(&name).await {
                    tracing::warn!(digest, error = &error as &dyn std::error::Error, "it was not removed");
                }
                false
            }
        }
    }

    /// The newest code in front; what is beyond the last builds is let go.
    fn keep_compiled(&self, turn: &Turn<F>, digest: &str, compiled: F::Compiled) {
        let mut kept = turn.bench.compiled.lock();
        kept.retain(|(known, _)| known != digest);
        kept.push_front((digest.to_owned(), compiled));
        kept.truncate(COMPILED_KEPT);
    }

    /// The bytes of a recorded build, from the folder or from what another host stored. Empty when its code is at hand and
    /// nothing will read them.
    pub(super) async fn stored(&self, turn: &Turn<F>, digest: &str) -> Result<Option<Bytes>, DeployError> {
        if turn.bench.compiled.lock().iter().any(|(known, _)| known == digest) {
            return Ok(Some(Bytes::new()));
        }
        let loaded = self.inner.artifacts.load(digest, usize::MAX >> 1).await;
        let loaded = loaded.map_err(|error| DeployError::unavailable("the stored component cannot be read", error))?;
        if loaded.is_some() {
            return Ok(loaded);
        }
        let shared = self.inner.cluster.components.load(digest).await.map_err(DeployError::of_host_tables)?;
        if let Some(bytes) = &shared {
            let stored = self.inner.artifacts.store(digest, bytes.clone()).await;
            stored.map_err(|error| DeployError::unavailable("the component cannot be stored", error))?;
        }
        Ok(shared)
    }

    /// The component of a build that is still kept, from the folder or from what another host stored.
    ///
    /// # Errors
    /// `Unavailable` or `Internal` when it cannot be read.
    pub(crate) async fn component(&self, digest: &str) -> Result<Option<Bytes>, DeployError> {
        let loaded = self.inner.artifacts.load(digest, usize::MAX >> 1).await;
        match loaded.map_err(|error| DeployError::unavailable("the stored component cannot be read", error))? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.inner.cluster.components.load(digest).await.map_err(DeployError::of_host_tables),
        }
    }

    async fn in_time<T>(&self, what: &str, step: impl Future<Output = T>) -> Result<T, DeployError> {
        let limit = self.inner.options.step_time_max;
        tokio::time::timeout(limit, step)
            .await
            .map_err(|_| DeployError::Invalid(format!("{what} took longer than {} ms", limit.as_millis())))
    }

    async fn migrate(&self, options: &SlotOptions, revision: &F::Revision) -> Result<Vec<String>, DeployError> {
        let (plugin, migrations) = (&options.plugin, migrations(revision));
        let applied = self.inner.database.migrate_plugin(&plugin.name, &plugin.grant.tables, &migrations).await;
        let applied = applied.map_err(of_migrations)?;
        let (this, plugin) = (self.clone(), Arc::clone(plugin));
        self.inner.drains.spawn(async move {
            let finishing = this.inner.database.finish_vectors(&plugin.name, &plugin.grant.tables, &migrations);
            this.inner.stopping.run_until_cancelled(finishing).await;
        });
        Ok(applied)
    }

    /// The migrations that a deploy would apply, after the same checks.
    pub(super) async fn plan_migrations(&self, assembled: &Assembled<F>) -> Result<Vec<MigrationPlan>, DeployError> {
        let (plugin, migrations) = (&assembled.options.plugin, migrations(&*assembled.revision));
        let database = &self.inner.database;
        let planned = database.plan_plugin_migrations(&plugin.name, &plugin.grant.tables, &migrations).await;
        let planned = planned.map_err(of_migrations)?.into_iter();
        Ok(planned.map(|step| MigrationPlan { name: step.name, statements: step.statements.len() }).collect())
    }

    /// Records the build, puts it in front and lets the old one drain.
    pub(super) async fn switch(
        &self,
        turn: &Turn<F>,
        mut line: Line,
        began: Instant,
        prepared: Prepared<F::Revision>,
        watch: Option<Duration>,
    ) -> Result<(DeployReport, Option<Draining>), DeployError> {
        line.prepare_ms = milliseconds(began);
        line.version = prepared.revision.description().map(|described| described.version.clone());
        let added = turn.added.as_ref().map(|(after, change)| (*after, change));
        let watch = self.plan_watch(turn, &prepared.revision, watch);
        if let Err(error) = self.inner.history.record_switch(&line, added, watch.as_ref()).await {
            prepared.revision.retire();
            return Err(self.fail(turn, line, began, error).await);
        }
        Ok(self.go_live(turn, line, prepared, watch.as_ref()).await)
    }

    /// The switch to a build that is recorded already, and what follows it: the old one drains, the new one is watched.
    pub(super) async fn go_live(
        &self,
        turn: &Turn<F>,
        line: Line,
        prepared: Prepared<F::Revision>,
        watch: Option<&RecordedWatch>,
    ) -> (DeployReport, Option<Draining>) {
        let Prepared { revision, options, migrations, changes } = prepared;
        let (flip_us, old) = self.put_in_front(turn, &options, &revision);
        self.inner.history.record_flip(&line.id, flip_us).await;
        self.begin_watch(&turn.slot, &revision, watch);
        let report = DeployReport {
            flip_us: Some(flip_us),
            watch_ms: watch.map(|watch| watch.window_ms),
            migrations,
            changes,
            ..DeployReport::of(&line, &*revision)
        };
        tracing::info!(
            plugin = line.plugin,
            action = report.action,
            revision = report.revision,
            sha256 = line.sha256,
            prepare_ms = report.prepare_ms,
            flip_us,
            "a build serves"
        );
        let draining = old.map(|old| self.drain(turn, old, Some(line.id)));
        (report, draining)
    }

    /// The switch itself: one pointer. From here on every new call goes to `revision`.
    pub(super) fn put_in_front(
        &self,
        turn: &Turn<F>,
        options: &SlotOptions,
        revision: &Arc<F::Revision>,
    ) -> (u64, Option<Arc<F::Revision>>) {
        let began = Instant::now();
        let old = turn.slot.switch(Arc::clone(revision));
        if turn.added.is_some()
            && let Err(overlap) = self.inner.registry.add(Arc::clone(&turn.slot))
        {
            // It was judged against all others, and none can have come since.
            tracing::error!(plugin = %turn.slot.name(), %overlap, "an added plugin has no place");
        }
        let flip_us = u64::try_from(began.elapsed().as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        self.tell_hooks(options, revision);
        (flip_us, old)
    }

    /// Tells whoever wants to know what serves now.
    pub(super) fn tell_hooks(&self, options: &SlotOptions, revision: &Arc<F::Revision>) {
        let switched = Switched::new(options, &**revision);
        self.inner.hooks.iter().for_each(|hook| hook.switched(&switched));
    }
}

impl Switched {
    fn new(options: &SlotOptions, revision: &impl Build) -> Self {
        let description = revision.description();
        let mut switched = Self {
            plugin: Arc::clone(&options.plugin),
            #[cfg(test)]
            revision: revision.number(),
            description: description.cloned(),
            bindings: Vec::new(),
            timers: Default::default(),
        };
        if revision.exports().consumer {
            let granted = &options.plugin.grant.consume;
            switched.bindings = description.map_or(granted, |described| &described.bindings).clone();
            let described = description.iter().flat_map(|described| &described.timers);
            switched.timers = described.map(|timer| (timer.name.clone(), timer.schedule.clone())).collect();
            switched.timers.extend(options.timers.clone());
        }
        switched
    }
}

/// What a build describes, in the order in which it is applied.
fn migrations(revision: &impl Build) -> Vec<Migration> {
    let described = revision.description().map_or(&[][..], |description| &description.migrations);
    let mut migrations: Vec<Migration> = described
        .iter()
        .map(|migration| Migration {
            name: migration.name.clone().into(),
            dialect: match migration.dialect {
                Dialect::Any => None,
                Dialect::Sqlite => Some(database::Dialect::Sqlite),
                Dialect::Postgres => Some(database::Dialect::Postgres),
            },
            sql: migration.sql.clone().into(),
        })
        .collect();
    migrations.sort_by(|left, right| left.name.cmp(&right.name));
    migrations
}

fn of_migrations(error: DatabaseError) -> DeployError {
    match error {
        DatabaseError::Invalid(_) | DatabaseError::Conflict(_) | DatabaseError::TooLarge(_) => {
            DeployError::Invalid(format!("its migrations are refused: {error}"))
        }
        other => DeployError::of_host_tables(other),
    }
}

/// A guest's own words, in one line of bearable length.
fn plain(text: &str) -> String {
    text.chars().take(500).map(|character| if character.is_control() { ' ' } else { character }).collect()
}
