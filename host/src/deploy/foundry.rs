//! The engine as the deployer's foundry, and its revisions as builds.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Build, Foundry};
use crate::bindings::lifecycle::Description;
use crate::capability::Plugin;
use crate::capability::grant::Isolation;
use crate::engine::{Compiled, Engine, Exports, PrepareError, Revision, RevisionStatistics};
use crate::telemetry::meter::Meter;

impl Foundry for Arc<Engine> {
    type Compiled = Compiled;
    type Revision = Revision;

    async fn compile(&self, wasm: Bytes) -> Result<Compiled, PrepareError> {
        Engine::compile(self, wasm).await
    }

    async fn revision(
        &self,
        compiled: &Compiled,
        number: i64,
        plugin: Arc<Plugin>,
        isolation: Isolation,
    ) -> Result<Arc<Revision>, PrepareError> {
        Engine::revision(self, compiled, number, plugin, isolation).await
    }

    fn is_compiled(&self, digest: &str) -> bool {
        Engine::is_compiled(self, digest)
    }

    fn machine_code_name(&self, digest: &str) -> String {
        Engine::machine_code_name(self, digest)
    }

    async fn machine_code(&self, digest: &str) -> Option<Bytes> {
        Engine::machine_code(self, digest).await
    }

    async fn accept_machine_code(&self, digest: &str, sealed: Bytes) -> Result<(), PrepareError> {
        Engine::accept_machine_code(self, digest, sealed).await
    }

    fn forget(&self, digest: &str) {
        Engine::forget(self, digest);
    }

    async fn keep_only(&self, wanted: HashSet<String>) -> std::io::Result<()> {
        let engine = Arc::clone(self);
        tokio::task::spawn_blocking(move || Engine::keep_only(&engine, &wanted)).await.map_err(std::io::Error::other)?
    }
}

impl Build for Revision {
    fn number(&self) -> i64 {
        self.number
    }

    fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    fn exports(&self) -> Exports {
        Revision::exports(self)
    }

    fn description(&self) -> Option<&Arc<Description>> {
        Revision::description(self)
    }

    async fn warm(&self, instances: usize) -> Result<(), PrepareError> {
        Revision::warm(self, instances).await
    }

    async fn ready(&self) -> Result<(), String> {
        Revision::ready(self).await
    }

    fn statistics(&self) -> RevisionStatistics {
        Revision::statistics(self)
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn imports(&self) -> &[String] {
        &self.imports
    }

    fn retire(&self) {
        Revision::retire(self);
    }

    async fn drained(&self) {
        Revision::drained(self).await;
    }

    fn cancel(&self) {
        Revision::cancel(self);
    }
}
