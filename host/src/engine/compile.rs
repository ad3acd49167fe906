//! From bytes to machine code: in a child process with limits, cached by digest, authenticated before it is loaded.
//!
//! Compiling is the one thing here whose cost a stranger's bytes decide, so it never happens in the host's own process.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::{Engine, Flavour, PrepareError};

/// Wall time a compilation may take. It stands back behind everything else, so that this is more than the processor time.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(120);
/// Processor time a compilation may take, over all its threads.
const COMPILE_CPU_SECONDS_MAX: u64 = 60;
/// Address space a compilation may take.
const COMPILE_MEMORY_BYTES_MAX: u64 = 3 << 30;
/// How far a compilation stands back behind what answers requests: it gets a tenth of a processor where both want it whole.
/// Further back, a build of the size that services have would not be done in time beside a host that is busy.
const COMPILE_NICE: i32 = 10;
/// A file in the cache that nobody wants stays for so long: a deploy that is running may have just made it.
const UNWANTED_FOR_MAX: Duration = Duration::from_secs(60 * 60);
/// What a child's complaint may be long.
const COMPLAINT_CHARS_MAX: usize = 500;
/// Of HMAC-SHA-256.
const MAC_BYTES: usize = 32;
/// The beginning of every component: magic number, version 13, layer 1.
const COMPONENT_PREAMBLE: [u8; 8] = [0x00, b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00];
/// The beginning of every core module.
const MODULE_PREAMBLE: [u8; 8] = [0x00, b'a', b's', b'm', 0x01, 0x00, 0x00, 0x00];

/// A component that is compiled and loaded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Compiled {
    /// SHA-256 of the component, in lower-case hexadecimal.
    pub digest: Arc<str>,
    pub(super) component: Component,
}

impl Engine {
    /// Compiles a component, or takes it from the cache.
    ///
    /// # Errors
    /// `NotAComponent`, `TooExpensive`, or `Unavailable` when the data folder cannot be written.
    pub(crate) async fn compile(&self, wasm: Bytes) -> Result<Compiled, PrepareError> {
        judge_preamble(&wasm)?;
        let digest: Arc<str> = hex::encode(Sha256::digest(&wasm)).into();
        let target = self.place(&digest);
        if let Some(component) = self.load(&target).await {
            return Ok(Compiled { digest, component });
        }
        std::fs::create_dir_all(&self.options.compiled).map_err(folder_error)?;
        compile_in_child(&self.options.compiler, &self.options.compiled, &wasm, &target).await?;
        let code = tokio::fs::read(&target).await.map_err(folder_error)?;
        let mac = self.mac(&target, &code).finalize().into_bytes();
        write_whole(&self.options.compiled, mac_path(&target), mac.as_slice()).await?;
        match self.load(&target).await {
            Some(component) => Ok(Compiled { digest, component }),
            None => Err(PrepareError::Unavailable("the compiled component could not be loaded".into())),
        }
    }

    /// Whether the compiled form of a component is at hand.
    pub(crate) fn is_compiled(&self, digest: &str) -> bool {
        let place = self.place(digest);
        // Both halves: a host that ended between writing the one and the other has neither.
        mac_path(&place).exists() && place.exists()
    }

    /// Under which name the compiled form of a component is the same on every host: one that has another version of wasmtime,
    /// other settings or a processor with other features has another name for it.
    pub(crate) fn machine_code_name(&self, digest: &str) -> String {
        format!("{digest}-{:016x}", self.compatibility)
    }

    /// The compiled form of a component for other hosts, with its authentication code in front. None when it is not at hand.
    pub(crate) async fn machine_code(&self, digest: &str) -> Option<Bytes> {
        let target = self.place(digest);
        let mut sealed = tokio::fs::read(mac_path(&target)).await.ok()?;
        sealed.extend(tokio::fs::read(&target).await.ok()?);
        Some(sealed.into())
    }

    /// Takes what `machine_code` gave on another host. Without its key nobody can make any.
    ///
    /// # Errors
    /// `Broken` when it is not authentic; `Unavailable` when the data folder cannot be written.
    pub(crate) async fn accept_machine_code(&self, digest: &str, sealed: Bytes) -> Result<(), PrepareError> {
        let target = self.place(digest);
        let parts = sealed.split_at_checked(MAC_BYTES);
        let Some((mac, code)) = parts.filter(|(mac, code)| self.mac(&target, code).verify_slice(mac).is_ok()) else {
            return Err(PrepareError::Broken("the machine code is not authentic".into()));
        };
        let folder = &self.options.compiled;
        std::fs::create_dir_all(folder).map_err(folder_error)?;
        // The code last: without it, its authentication code says nothing.
        for (path, bytes) in [(mac_path(&target), mac), (target, code)] {
            write_whole(folder, path, bytes).await?;
        }
        Ok(())
    }

    /// Removes compiled components that `wanted` does not name, or that were made for another version of the engine, another
    /// processor or other settings, and what a compilation left behind that was killed. What is younger than an hour stays.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub(crate) fn keep_only(&self, wanted: &HashSet<String>) -> std::io::Result<()> {
        let places = wanted.iter().map(|digest| self.place(digest));
        let kept = places.flat_map(|place| [mac_path(&place), place]).collect();
        remove_old(&self.options.compiled, &kept, UNWANTED_FOR_MAX)
    }

    /// Removes the compiled form of a component that is no longer wanted.
    pub(crate) fn forget(&self, digest: &str) {
        let target = self.place(digest);
        for path in [mac_path(&target), target] {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a compiled component could not be removed");
            }
        }
    }

    /// Where the compiled form of a component lies.
    fn place(&self, digest: &str) -> PathBuf {
        self.options.compiled.join(self.machine_code_name(digest)).with_extension("cwasm")
    }

    /// Loads a compiled file whose authentication code is right; anything else is as if it were not there.
    async fn load(&self, target: &Path) -> Option<Component> {
        let expected = tokio::fs::read(mac_path(target)).await.ok()?;
        let code = tokio::fs::read(target).await.ok()?;
        if self.mac(target, &code).verify_slice(&expected).is_err() {
            tracing::warn!("a compiled component was altered and is compiled again");
            return None;
        }
        drop(code);
        // Which engine it was compiled for stands in the file; the other one refuses it.
        let [plain, concurrent] = &self.flavours;
        let loaded = trusted(plain, target).or_else(|_| trusted(concurrent, target));
        loaded.inspect_err(|error| tracing::warn!(%error, "a compiled component is compiled again")).ok()
    }

    /// Over the name too, so that no component's code can take another one's place.
    fn mac(&self, target: &Path, code: &[u8]) -> Hmac<Sha256> {
        // HMAC pads a short key with zeros to its block of 64 bytes; doing so here keeps the types infallible.
        let mut block = [0_u8; 64];
        for (padded, byte) in block.iter_mut().zip(self.options.cache_key) {
            *padded = byte;
        }
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(target.file_stem().unwrap_or_default().as_encoded_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }
}

/// Changes with wasmtime's version, the engines' settings and the processor's features.
pub(super) fn compatibility(flavours: &[wasmtime::Engine; 2]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for engine in flavours {
        engine.precompile_compatibility_hash().hash(&mut hasher);
    }
    hasher.finish()
}

/// Removes files of a folder that are not `kept` and older than `age_max`.
fn remove_old(folder: &Path, kept: &HashSet<PathBuf>, age_max: Duration) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        match remove_if_old(&entry?.path(), kept, age_max) {
            // Somebody else was quicker.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn remove_if_old(path: &Path, kept: &HashSet<PathBuf>, age_max: Duration) -> std::io::Result<()> {
    let about = std::fs::metadata(path)?;
    // A file of the future is as good as a young one.
    let is_old = about.modified()?.elapsed().is_ok_and(|age| age >= age_max);
    if about.is_file() && is_old && !kept.contains(path) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Loads a compiled file that has been authenticated.
fn trusted(engine: &wasmtime::Engine, target: &Path) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "wasmtime trusts compiled files; this one has just been authenticated with a key that follows from the \
                  master key, in a folder only this host can write"
    )]
    unsafe {
        Component::deserialize_file(engine, target)
    }
}

/// What `berth compile` does, in the child: limits itself, then compiles one file into another.
///
/// # Errors
/// A sentence, for standard error.
pub(crate) fn compile_file(input: &Path, output: &Path) -> Result<(), PrepareError> {
    let unusable = |error: std::io::Error| PrepareError::Unavailable(format!("{}: {error}", output.display()));
    let wasm = std::fs::read(input).map_err(|error| PrepareError::Broken(format!("{}: {error}", input.display())))?;
    judge_preamble(&wasm)?;
    let mut target = std::fs::File::create(output).map_err(unusable)?;
    // From here on a stranger's bytes decide what happens.
    limit_myself();
    let machine_code = precompile(&wasm)?;
    target.write_all(&machine_code).map_err(unusable)
}

/// For the plain engine where that will do: validation comes first and is quick, so a component of WASI 0.3 is not
/// compiled twice.
fn precompile(wasm: &[u8]) -> Result<Vec<u8>, PrepareError> {
    let compile = |flavour| {
        let engine = wasmtime::Engine::new(&super::configuration(flavour, false))
            .map_err(|error| PrepareError::Unavailable(format!("the compiler could not start: {error:#}")))?;
        Ok::<_, PrepareError>(engine.precompile_component(wasm))
    };
    let machine_code = match compile(Flavour::Plain)? {
        Ok(machine_code) => Ok(machine_code),
        Err(_) => compile(Flavour::Concurrent)?,
    };
    machine_code.map_err(|error| {
        let text = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
        PrepareError::NotAComponent(format!("this is no valid component: {text}"))
    })
}

fn judge_preamble(wasm: &[u8]) -> Result<(), PrepareError> {
    let preamble = wasm.get(..8).unwrap_or(wasm);
    if preamble == COMPONENT_PREAMBLE {
        return Ok(());
    }
    Err(PrepareError::NotAComponent(
        if preamble == MODULE_PREAMBLE {
            "this is a core module, not a component: build it for the target wasm32-wasip2"
        } else {
            "this is no WebAssembly component: the first eight bytes are not a component's"
        }
        .into(),
    ))
}

async fn compile_in_child(program: &Path, folder: &Path, wasm: &Bytes, target: &Path) -> Result<(), PrepareError> {
    let input = tempfile::Builder::new().suffix(".wasm").tempfile_in(folder).map_err(folder_error)?;
    let output = tempfile::Builder::new().suffix(".part").tempfile_in(folder).map_err(folder_error)?;
    tokio::fs::write(input.path(), wasm).await.map_err(folder_error)?;
    let child = tokio::process::Command::new(program)
        .arg("compile")
        .arg(input.path())
        .arg("-o")
        .arg(output.path())
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .output();
    let result =
        tokio::time::timeout(COMPILE_TIME_MAX, child).await.map_err(|_| too_expensive())?.map_err(folder_error)?;
    if !result.status.success() {
        let complaint: String = String::from_utf8_lossy(&result.stderr)
            .lines()
            .next()
            .map(|line| line.trim_start_matches("berth: ").chars().take(COMPLAINT_CHARS_MAX).collect())
            .unwrap_or_default();
        return Err(if result.status.code() == Some(1) && !complaint.is_empty() {
            PrepareError::NotAComponent(complaint)
        } else {
            too_expensive()
        });
    }
    output.persist(target).map_err(|error| folder_error(error.error))?;
    Ok(())
}

/// Bounds this process: address space, processor time, and no further descriptor, so that it can open neither a socket nor
/// a file; and it makes room for what answers requests. Failing to do so is no reason not to compile.
fn limit_myself() {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    let limits = [
        (Resource::As, COMPILE_MEMORY_BYTES_MAX),
        (Resource::Cpu, COMPILE_CPU_SECONDS_MAX),
        (Resource::Core, 0),
        (Resource::Nofile, 0),
    ];
    for (resource, maximum) in limits {
        if let Err(error) = setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) }) {
            tracing::debug!(%error, "a limit could not be set");
        }
    }
    if let Err(error) = nice(COMPILE_NICE) {
        tracing::debug!(%error, "a compilation keeps its priority");
    }
}

/// Writes a file of the cache in one step: another plugin with the same component may be reading it.
async fn write_whole(folder: &Path, path: PathBuf, bytes: &[u8]) -> Result<(), PrepareError> {
    let part = tempfile::Builder::new().suffix(".part").tempfile_in(folder).map_err(folder_error)?;
    tokio::fs::write(part.path(), bytes).await.map_err(folder_error)?;
    part.persist(path).map(drop).map_err(|error| folder_error(error.error))
}

fn mac_path(target: &Path) -> PathBuf {
    target.with_extension("mac")
}

fn too_expensive() -> PrepareError {
    PrepareError::TooExpensive(format!(
        "compiling it took more than {} seconds, {} seconds of processor time or {} GiB of memory",
        COMPILE_TIME_MAX.as_secs(),
        COMPILE_CPU_SECONDS_MAX,
        COMPILE_MEMORY_BYTES_MAX >> 30
    ))
}

fn folder_error(error: std::io::Error) -> PrepareError {
    PrepareError::Unavailable(format!("the data folder cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_files_that_nobody_wants_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["wanted.cwasm", "wanted.mac", "other.cwasm", "left-behind.part"] {
            std::fs::write(path(name), name).unwrap();
        }
        std::fs::create_dir(path("folder")).unwrap();
        let kept = HashSet::from([path("wanted.cwasm"), path("wanted.mac")]);
        remove_old(folder.path(), &kept, UNWANTED_FOR_MAX).unwrap();
        assert!(path("other.cwasm").exists(), "a running deploy may have just made it");
        remove_old(folder.path(), &kept, Duration::ZERO).unwrap();
        let left = |name: &str| path(name).exists();
        assert!(left("wanted.cwasm") && left("wanted.mac") && left("folder"));
        assert!(!left("other.cwasm") && !left("left-behind.part"));
        remove_old(&path("nowhere"), &kept, Duration::ZERO).unwrap();
    }
}
