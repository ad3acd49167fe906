//! `keygen` and `sign`: key pairs, and detached signatures of components. Nothing here talks to a host.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::source::COMPONENT_BYTES_MAX;
use super::{CommandError, output};
use crate::signature::{SIGNATURE_CHARS_MAX, Signer};

/// Bytes of a key file; ours have less than 200.
const KEY_BYTES_MAX: u64 = 4 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct KeygenArguments {
    /// Where the private key goes; must not exist
    file: PathBuf,
    /// JSON instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SignArguments {
    /// The private key, as `berth keygen` made it
    key: PathBuf,
    /// The component; its signature goes to <file>.sig
    file: PathBuf,
    /// JSON instead of a line
    #[arg(long)]
    json: bool,
}

/// Makes a key pair. The private half goes to a file of its own, the public half to standard output.
pub(super) fn keygen(arguments: &KeygenArguments) -> Result<(), CommandError> {
    let KeygenArguments { file, json: is_json } = arguments;
    let signer = Signer::generate();
    let pem = signer.to_pem().ok_or_else(|| CommandError::failed("the key could not be encoded"))?;
    // Made with its mode, and only where nothing is: no moment in which others could read it, no key lost.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = made.and_then(|mut key| key.write_all(pem.as_bytes()).and_then(|()| key.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            CommandError::failed(format!("{} exists and is not overwritten: name another file", file.display()))
        }
        _ => CommandError::failed(format!("{} cannot be written: {error}", file.display())),
    })?;
    let public = signer.public_key();
    if *is_json {
        output::json(&json!({ "file": file.display().to_string(), "publicKey": public }));
    } else {
        output::say(&format!("{}: the private key; keep it to yourself", file.display()));
        output::say(&format!("[host] trusted_keys = [\"{public}\"]"));
    }
    Ok(())
}

/// Signs a component into `<file>.sig`, which replaces an earlier signature.
pub(super) fn sign(arguments: &SignArguments) -> Result<(), CommandError> {
    let SignArguments { key, file, json: is_json } = arguments;
    let text = zeroize::Zeroizing::new(read(key, KEY_BYTES_MAX)?);
    let signer = std::str::from_utf8(&text).ok().and_then(Signer::from_pem);
    let signer = signer.ok_or_else(|| {
        CommandError::failed(format!("{} is no private key, as `berth keygen` makes one", key.display()))
    })?;
    let signature = signer.sign(&read(file, COMPONENT_BYTES_MAX)?);
    let target = beside(file);
    std::fs::write(&target, format!("{signature}\n"))
        .map_err(|error| CommandError::failed(format!("{} cannot be written: {error}", target.display())))?;
    let public = signer.public_key();
    if *is_json {
        output::json(&json!({ "file": target.display().to_string(), "signature": signature, "publicKey": public }));
    } else {
        output::say(&format!("{}: signed with {public}", target.display()));
    }
    Ok(())
}

/// The signature that lies beside a component's file, if one does.
///
/// # Errors
/// When there is one that cannot be read or is none.
pub(super) fn signature_beside(file: &Path) -> Result<Option<String>, CommandError> {
    let path = beside(file);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read(&path, SIGNATURE_CHARS_MAX as u64)?;
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(text.to_owned())),
        _ => Err(CommandError::failed(format!("{} holds no signature: sign the file again", path.display()))),
    }
}

/// `<file>.sig`.
fn beside(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, CommandError> {
    let unreadable =
        |error: std::io::Error| CommandError::failed(format!("{} cannot be read: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(CommandError::failed(format!("{} is larger than {bytes_max} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn made(file: &Path) -> Result<(), CommandError> {
        keygen(&KeygenArguments { file: file.to_owned(), json: false })
    }

    #[test]
    fn a_key_is_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        made(&key).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&key).unwrap();
        assert!(made(&key).unwrap_err().to_string().contains("not overwritten"));
        assert_eq!(std::fs::read(&key).unwrap(), before);
    }

    #[test]
    fn a_signature_lies_beside_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (key, file) = (folder.path().join("key.pem"), folder.path().join("a.wasm"));
        std::fs::write(&file, b"component").unwrap();
        assert_eq!(signature_beside(&file).unwrap(), None);
        let sign = |key: &Path| sign(&SignArguments { key: key.to_owned(), file: file.clone(), json: true });
        assert!(sign(&file).unwrap_err().to_string().contains("no private key"));
        made(&key).unwrap();
        sign(&key).unwrap();
        let signature = signature_beside(&file).unwrap().unwrap();
        assert_eq!(signature, Signer::from_pem(&std::fs::read_to_string(&key).unwrap()).unwrap().sign(b"component"));
        for wrong in ["", "two words", &"A".repeat(SIGNATURE_CHARS_MAX + 1)] {
            std::fs::write(beside(&file), wrong).unwrap();
            assert!(signature_beside(&file).is_err(), "{wrong}");
        }
    }
}
