//! Who one is at a registry: what `docker login` has left, in `~/.docker/config.json` or the folder of `DOCKER_CONFIG`.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use super::super::CommandError;

/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What the file calls Docker's own registry.
const DOCKER_HUB: (&str, &str) = ("docker.io", "https://index.docker.io/v1/");

/// The login for a registry; nobody's when there is none. A credential helper that the file names is asked.
///
/// # Errors
/// One sentence, when there is a login that cannot be read or used.
pub(super) fn of(registry: &str) -> Result<RegistryAuth, CommandError> {
    let Some(path) = path() else { return Ok(RegistryAuth::Anonymous) };
    let file = match File::open(&path) {
        Ok(file) => BufReader::new(file.take(FILE_BYTES_MAX)),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(RegistryAuth::Anonymous),
        Err(error) => return Err(CommandError::failed(format!("{} cannot be read: {error}", path.display()))),
    };
    let name = if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry };
    match docker_credential::get_credential_from_reader(file, name) {
        Ok(DockerCredential::UsernamePassword(name, password)) => Ok(RegistryAuth::Basic(name, password)),
        Ok(DockerCredential::IdentityToken(_)) => Err(CommandError::failed(format!(
            "the login for {registry} is an identity token, which is not supported; log in with a name and a password or access token"
        ))),
        // A helper says so when it knows nobody there; the registry has the last word.
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::HelperFailure { .. }) => {
            Ok(RegistryAuth::Anonymous)
        }
        Err(error) => Err(CommandError::failed(format!(
            "no login for {registry} can be read with {}: {}",
            path.display(),
            error.to_string().lines().next().unwrap_or_default()
        ))),
    }
}

fn path() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    folder.or_else(usual).map(|folder| folder.join("config.json"))
}
