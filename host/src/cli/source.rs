//! Where a build comes from: a file, standard input, an address on the web with its digest, or a registry.
//!
//! Everything is fetched here, by whoever deploys and with their credentials; the host sees bytes and a line for its
//! history. Nothing that came over a network may be handed on before it was held against a digest.

mod credentials;
mod oci;
mod web;

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{CommandError, sign};
pub(super) use oci::Image;

/// Bytes of a component; the host's own limit may be lower.
pub(super) const COMPONENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What is to be deployed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SourceArguments {
    /// A file, - for standard input, https://…#sha256=…, or oci://registry/name:tag
    source: String,
    /// The SHA-256 that the component must have
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// Fetch from http:// on another machine too; what comes is held against the digest all the same
    #[arg(long)]
    plain_http: bool,
}

/// A build in memory.
pub(super) struct Component {
    pub bytes: Vec<u8>,
    /// Where it came from, for the history: what was named, without credentials, and with the digest that was found there.
    pub source: String,
    /// What lies beside a file as its signature.
    pub signature: Option<String>,
}

impl SourceArguments {
    /// Reads or fetches it.
    ///
    /// # Errors
    /// One sentence: what is not to be had, is empty, too large, or is not what its digest says.
    pub(super) async fn read(&self) -> Result<Component, CommandError> {
        let wanted = self.digest.as_deref().map(Sha256Digest::parse).transpose()?;
        let Some((scheme, rest)) = self.source.split_once("://") else {
            let component = read_local(&self.source)?;
            if let Some(wanted) = &wanted {
                wanted.check(&self.source, &component.bytes)?;
            }
            return Ok(component);
        };
        match scheme {
            "https" | "http" => web::fetch(&self.source, wanted, self.plain_http).await,
            "oci" if wanted.is_some() => Err(CommandError::usage(
                "the digest of an image belongs into its reference, as oci://registry/name@sha256:…; --digest is for files and https://…",
            )),
            "oci" if self.plain_http => Err(CommandError::usage(
                "registries are asked over http:// on this machine only, and need no --plain-http there",
            )),
            "oci" => oci::pull(rest).await,
            other => Err(CommandError::usage(format!(
                "{other}:// is not a source of builds; give a file, - for standard input, https://… or oci://…"
            ))),
        }
    }
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// One sentence, when it cannot be read, is empty or too large.
pub(super) fn read_local(source: &str) -> Result<Component, CommandError> {
    let unreadable = |error: std::io::Error| CommandError::failed(format!("{source} cannot be read: {error}"));
    let mut bytes = Vec::new();
    let mut signature = None;
    if source == "-" {
        std::io::stdin().lock().take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(source).map_err(unreadable)?;
        file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        signature = sign::signature_beside(Path::new(source))?;
    }
    check_size(source, bytes.len() as u64)?;
    Ok(Component { bytes, source: source.to_owned(), signature })
}

/// Refuses what is empty or too large to be a component.
fn check_size(source: &str, size: u64) -> Result<(), CommandError> {
    match size {
        0 => Err(CommandError::failed(format!("{source} is empty"))),
        1..=COMPONENT_BYTES_MAX => Ok(()),
        _ => Err(CommandError::failed(format!("{source} is larger than {COMPONENT_BYTES_MAX} bytes"))),
    }
}

/// Whether a host's name means this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A SHA-256, written `sha256:` and 64 small hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sha256Digest(String);

impl Sha256Digest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// Reads one with or without `sha256:` before it.
    fn parse(text: &str) -> Result<Self, CommandError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(digits));
        }
        Err(CommandError::usage(format!("\"{text}\" is not a digest, which is sha256: and 64 hexadecimal digits")))
    }

    /// The digits alone.
    pub(super) fn digits(&self) -> &str {
        &self.0
    }

    /// Refuses bytes that are not the ones meant.
    fn check(&self, source: &str, bytes: &[u8]) -> Result<(), CommandError> {
        let found = Self::of(bytes);
        if found == *self {
            return Ok(());
        }
        Err(CommandError::failed(format!("{source} is not what was asked for: its digest is {found}, and not {self}")))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Sha256Digest::of(b"abc");
        assert_eq!(digest.to_string(), format!("sha256:{of_abc}"));
        for text in [of_abc.to_owned(), format!("sha256:{of_abc}"), of_abc.to_ascii_uppercase()] {
            assert_eq!(Sha256Digest::parse(&text).unwrap(), digest, "{text}");
        }
        for text in ["", "sha256:", "sha512:00", of_abc.get(1..).unwrap(), &of_abc.replace('b', "g")] {
            assert!(Sha256Digest::parse(text).is_err(), "{text}");
        }
        assert!(digest.check("x", b"abc").is_ok());
        let refusal = digest.check("x", b"abd").unwrap_err().to_string();
        assert!(refusal.contains(of_abc) && refusal.contains(Sha256Digest::of(b"abd").digits()), "{refusal}");
    }

    #[test]
    fn this_machine_has_several_names() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "example.com", "[fe80::1]", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn nothing_and_too_much_are_no_components() {
        assert!(check_size("x", 0).is_err() && check_size("x", COMPONENT_BYTES_MAX + 1).is_err());
        assert!(check_size("x", 1).is_ok() && check_size("x", COMPONENT_BYTES_MAX).is_ok());
    }
}
