//! The master key: 32 bytes that wrap every data key, read once at the start.
//!
//! It must never be logged, compared by content in the open, or written anywhere but its file of mode 0600.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::backend::VaultError;
use super::fill_random;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// The largest master-key file that is read: 64 digits and some white space.
const FILE_BYTES_MAX: u64 = 256;

/// The key itself; wiped when dropped.
pub(crate) struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    /// A key given as 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Result<Self, VaultError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), bytes.as_mut())
            .map_err(|_| VaultError::MasterKey("a master key is 64 hexadecimal digits".to_owned()))?;
        Ok(Self(bytes))
    }

    /// Reads the key's file; makes one of mode 0600 when there is none. A file others may read is refused.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, VaultError> {
        match Self::load(path) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(error) => return Err(error),
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut())?;
        Self::create(path, &bytes)?;
        // Read back: another host on the same folder may have been quicker.
        Self::load(path)?.ok_or_else(|| fault(path, "vanished"))
    }

    /// A key for one purpose of this host alone, such as authenticating its own files: the same for the same master key,
    /// and worthless for anything else.
    ///
    /// # Errors
    /// Never with a key of this length.
    pub(crate) fn derive(&self, purpose: &str) -> Result<[u8; KEY_BYTES], VaultError> {
        super::authenticate(self.bytes(), &[b"berth derived key", &[0], purpose.as_bytes()])
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn load(path: &Path) -> Result<Option<Self>, VaultError> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(path, error)),
        };
        if metadata.mode() & 0o077 != 0 {
            return Err(fault(path, "others may read it; set its mode to 0600"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(fault(path, "it does not hold 64 hexadecimal digits"));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| fault(path, error))?);
        Self::parse(&text).map(Some).map_err(|_| fault(path, "it does not hold 64 hexadecimal digits"))
    }

    /// Writes the whole key under another name and links it into place, so that no half-written key is ever found.
    fn create(path: &Path, bytes: &[u8; KEY_BYTES]) -> Result<(), VaultError> {
        let draft = path.with_extension(format!("new-{}", uuid::Uuid::now_v7()));
        let text = Zeroizing::new(hex::encode(bytes));
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            writeln!(file, "{}", text.as_str())?;
            file.sync_all()?;
            match std::fs::hard_link(&draft, path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        let written = write();
        // The draft is of no use any more, whether or not it became the key.
        let _ = std::fs::remove_file(&draft);
        written.map_err(|error| fault(path, error))
    }
}

fn fault(path: &Path, reason: impl std::fmt::Display) -> VaultError {
    VaultError::MasterKey(format!("the master key file {} cannot be used: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_start_makes_a_key_only_the_owner_reads_and_the_next_one_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(first.bytes(), second.bytes());
        assert_ne!(first.bytes(), &[0; KEY_BYTES]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_malformed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::load_or_create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MasterKey::load_or_create(&path), Err(VaultError::MasterKey(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(MasterKey::load_or_create(&path), Err(VaultError::MasterKey(_))), "never replaced silently");
        for text in ["", "12", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            assert!(MasterKey::parse(text).is_err(), "{text}");
        }
        assert!(MasterKey::parse(&"aB".repeat(32)).is_ok());
    }
}
