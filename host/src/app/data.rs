//! The data folder: its lock and the operator's token.
//!
//! One host a data folder: the embedded queue gives a starting host every message its predecessor had in hand, which is
//! right only when that one is gone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use crate::settings::Settings;

/// The folder of capsules in it.
pub(super) const CAPSULES: &str = "capsules";

/// Held as long as the process lives.
pub(super) struct Lock {
    _file: File,
}

/// The operator's token and where a person finds it.
pub(super) struct OperatorToken {
    pub value: String,
    /// As in `data/operator.token` or `BERTH_OPERATOR_TOKEN`.
    pub place: String,
}

/// Makes the folder and takes its lock.
///
/// # Errors
/// When another host uses the folder, or it cannot be written.
pub(super) fn prepare(data: &Path) -> anyhow::Result<Lock> {
    make_private(data)?;
    for folder in ["artifacts", "compiled"] {
        make_private(&data.join(folder))?;
    }
    let path = data.join("host.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("BERTH_DATA: {} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => bail!("BERTH_DATA: another host uses {}", data.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}

/// The token from the environment, or from `<data>/operator.token`, which is made on the first start.
///
/// # Errors
/// When the file cannot be read or made, is empty, or may be read by others.
pub(super) fn operator_token(settings: &Settings) -> anyhow::Result<OperatorToken> {
    if let Some(token) = &settings.operator_token {
        return Ok(OperatorToken { value: token.reveal().to_owned(), place: "BERTH_OPERATOR_TOKEN".into() });
    }
    let path = settings.operator_token_file();
    let place = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mode = fs::metadata(&path).with_context(|| place.clone())?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!("{place} may be read by others: set its mode to 0600");
            }
            match text.trim() {
                "" => bail!("{place} is empty: remove it, and the next start makes a new one"),
                token => Ok(OperatorToken { value: token.to_owned(), place }),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let value = hex::encode(rand::random::<[u8; 32]>());
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
            file.write_all(value.as_bytes()).and_then(|()| file.sync_all()).with_context(|| place.clone())?;
            Ok(OperatorToken { value, place })
        }
        Err(error) => Err(error).with_context(|| format!("{place} cannot be read")),
    }
}

/// The machine's name, so that people can tell hosts apart.
pub(super) fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "unknown".to_owned(),
        name => name.to_owned(),
    }
}

fn make_private(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("BERTH_DATA: {} cannot be made", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn a_data_folder_has_one_host() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = prepare(&data).unwrap();
        let refused = prepare(&data).err().unwrap().to_string();
        assert!(refused.contains("another host uses"), "{refused}");
        drop(first);
        assert!(prepare(&data).is_ok());
    }
}
