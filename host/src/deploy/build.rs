//! What the deployer needs of the engine, and no more: compile, assemble, warm, retire.
//!
//! Two traits, so that the order of a deploy can be tested with builds that fail where a test wants them to.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::bindings::lifecycle::Description;
use crate::capability::Plugin;
use crate::capability::grant::Isolation;
use crate::engine::{Exports, PrepareError, RevisionStatistics};
use crate::telemetry::meter::Meter;

/// Makes builds out of bytes.
pub(crate) trait Foundry: Send + Sync + 'static {
    /// Compiled code: cheap to clone, good for any number of builds.
    type Compiled: Clone + Send + Sync + 'static;
    /// A build that can be called.
    type Revision: Build;

    /// Compiles, or takes the result from the cache.
    fn compile(&self, wasm: Bytes) -> impl Future<Output = Result<Self::Compiled, PrepareError>> + Send;

    /// Links what the grant allows and asks the component to describe itself.
    fn revision(
        &self,
        compiled: &Self::Compiled,
        number: i64,
        plugin: Arc<Plugin>,
        isolation: Isolation,
    ) -> impl Future<Output = Result<Arc<Self::Revision>, PrepareError>> + Send;

    /// Whether compiling a component would cost nothing.
    fn is_compiled(&self, digest: &str) -> bool;

    /// Under which name its compiled form can be exchanged with other hosts.
    fn machine_code_name(&self, digest: &str) -> String;

    /// The compiled form of a component, for a host with the same key; none when it is not at hand.
    fn machine_code(&self, digest: &str) -> impl Future<Output = Option<Bytes>> + Send;

    /// Takes what `machine_code` gave on another host.
    ///
    /// # Errors
    /// When it is not authentic, or cannot be kept.
    fn accept_machine_code(&self, digest: &str, sealed: Bytes)
    -> impl Future<Output = Result<(), PrepareError>> + Send;

    /// Removes what is cached of a component that nobody will ask for again.
    fn forget(&self, digest: &str);

    /// Removes what is cached of components that `wanted` does not name, but for what a running deploy may have just made.
    ///
    /// # Errors
    /// When the cache cannot be read or changed.
    fn keep_only(&self, wanted: HashSet<String>) -> impl Future<Output = std::io::Result<()>> + Send;
}

/// A build as the deployer sees it.
pub(crate) trait Build: Send + Sync + 'static {
    /// The number of the revision, per plugin, from 1.
    fn number(&self) -> i64;
    /// SHA-256 of the component in hexadecimal digits.
    fn digest(&self) -> &Arc<str>;
    fn exports(&self) -> Exports;
    /// What it says of itself; none when it does not export `lifecycle`.
    fn description(&self) -> Option<&Arc<Description>>;
    /// Makes up to `instances` instances ready.
    fn warm(&self, instances: usize) -> impl Future<Output = Result<(), PrepareError>> + Send;
    /// Asks whether it is ready; the error is its own sentence.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    fn statistics(&self) -> RevisionStatistics;
    /// What requests to it came to.
    fn meter(&self) -> &Meter;
    /// The interfaces its component imports, by name.
    fn imports(&self) -> &[String];
    /// Keeps no instance for later any more. A call that already holds the build is still answered.
    fn retire(&self);
    /// Resolves when no call and no body is in flight.
    fn drained(&self) -> impl Future<Output = ()> + Send;
    /// Cancels what still runs.
    fn cancel(&self);
}
