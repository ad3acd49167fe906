//! Components as they were deployed, one file a digest: `<data>/artifacts/<sha256>.wasm`, private to the host.
//!
//! A file is complete or absent: it is written aside, flushed to disk and renamed. What is read back is hashed again, so a
//! damaged file is never run.

use std::collections::HashSet;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// The folder of components. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Artifacts {
    folder: PathBuf,
}

/// SHA-256 in lower-case hexadecimal digits.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Artifacts {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps a component under its digest. One that is there already, whole, is left alone.
    pub(super) async fn store(&self, digest: &str, bytes: Bytes) -> io::Result<()> {
        let (folder, target) = (self.folder.clone(), self.path(digest));
        blocking(move || {
            if read_checked(&target, bytes.len() as u64)?.is_some_and(|stored| stored == bytes) {
                return Ok(());
            }
            make_private_folder(&folder)?;
            // In the same folder, so that the rename stays within one file system; removed again when anything fails.
            let mut file = tempfile::Builder::new().prefix(".incoming-").tempfile_in(&folder)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)?;
            std::fs::File::open(&folder)?.sync_all()
        })
        .await
    }

    /// The component of a digest. None when it is absent, larger than `bytes_max` or damaged.
    pub(super) async fn load(&self, digest: &str, bytes_max: usize) -> io::Result<Option<Bytes>> {
        let (target, digest) = (self.path(digest), digest.to_owned());
        blocking(move || {
            let bytes = read_checked(&target, bytes_max as u64)?;
            Ok(bytes.filter(|bytes| {
                let is_whole = digest_of(bytes) == digest;
                if !is_whole {
                    tracing::error!(digest, "a stored component is damaged and not used");
                }
                is_whole
            }))
        })
        .await
    }

    /// Removes the components that `wanted` does not name and returns their digests.
    pub(super) async fn keep_only(&self, wanted: HashSet<String>) -> io::Result<Vec<String>> {
        let folder = self.folder.clone();
        blocking(move || {
            let mut removed = Vec::new();
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                let is_component = path.extension().is_some_and(|extension| extension == "wasm");
                let Some(digest) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_component) else {
                    continue;
                };
                if !wanted.contains(digest) {
                    std::fs::remove_file(&path)?;
                    removed.push(digest.to_owned());
                }
            }
            Ok(removed)
        })
        .await
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

/// Reads a component file of at most `bytes_max`. None when there is no such file or it is larger.
pub(super) async fn read_file(path: PathBuf, bytes_max: usize) -> io::Result<Option<Bytes>> {
    blocking(move || read_checked(&path, bytes_max as u64)).await
}

fn read_checked(path: &Path, bytes_max: u64) -> io::Result<Option<Bytes>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then(|| bytes.into()))
}

fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Artifacts, digest_of};

    #[tokio::test]
    async fn a_component_is_kept_whole_private_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().join("artifacts"));
        let digest = digest_of(b"component");
        for _ in 0..2 {
            artifacts.store(&digest, (&b"component"[..]).into()).await.unwrap();
        }
        let path = folder.path().join("artifacts").join(format!("{digest}.wasm"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(artifacts.load(&digest, 9).await.unwrap().unwrap(), &b"component"[..]);
        assert_eq!(artifacts.load(&digest, 8).await.unwrap(), None);
        assert_eq!(artifacts.load("absent", 9).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_damaged_component_is_as_if_absent_and_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().to_owned());
        let digest = digest_of(b"component");
        std::fs::write(folder.path().join(format!("{digest}.wasm")), b"compXnent").unwrap();
        assert_eq!(artifacts.load(&digest, 99).await.unwrap(), None);
        artifacts.store(&digest, (&b"component"[..]).into()).await.unwrap();
        assert!(artifacts.load(&digest, 99).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn only_what_nobody_wants_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(folder.path().to_owned());
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(format!("{name}.wasm")), name).unwrap();
        }
        std::fs::write(folder.path().join("note.txt"), "mine").unwrap();
        assert_eq!(artifacts.keep_only(["a".to_owned()].into()).await.unwrap(), ["b"]);
        assert!(folder.path().join("a.wasm").exists() && folder.path().join("note.txt").exists());
    }
}
