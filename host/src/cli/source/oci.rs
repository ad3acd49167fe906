//! Components in registries, as the wasm OCI artifact that `wkg`, `oras` and other tools of the CNCF write and read: an image
//! of one layer, `application/wasm`, with a configuration that says what the component imports and exports.
//!
//! A tag may point elsewhere tomorrow; what is written down is the digest of the manifest that was found behind it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode, header};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde::Deserialize;
use serde_json::json;

use super::super::client::{http_client, install_tls, reason};
use super::super::{CommandError, output};
use super::web::redirects;
use super::{Component, Sha256Digest, check_size, credentials, is_loopback};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The manifests that are asked for: an index is asked for only to say what is wrong with it.
const MANIFEST_TYPES: [&str; 4] = [
    MANIFEST_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// The configuration of a component.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// The layer that is the component, and what it was called before there was a standard.
const LAYER_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
/// Bytes of a manifest, as registries bound it.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Layers that a refusal names.
const LAYERS_NAMED_MAX: usize = 4;
/// Characters of what a registry says that are passed on.
const WORDS_CHARS_MAX: usize = 300;

/// How long a whole transfer may take, and how long nothing may come in between.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An image in a registry, and who asks for it.
pub(in crate::cli) struct Image {
    reference: Reference,
    auth: RegistryAuth,
    client: Client,
}

/// Finds an image's component. `reference` comes without `oci://`.
///
/// # Errors
/// One sentence: what is wrong with the reference, the login, the registry, or the image.
pub(super) async fn pull(reference: &str) -> Result<Component, CommandError> {
    let image = Image::named(reference)?;
    within_time(&image, image.pull()).await
}

async fn within_time<T>(
    image: &Image,
    transfer: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    tokio::time::timeout(TRANSFER_TIMEOUT, transfer).await.unwrap_or_else(|_| {
        Err(CommandError::failed(format!(
            "{} takes longer than {} seconds",
            image.reference.registry(),
            TRANSFER_TIMEOUT.as_secs()
        )))
    })
}

impl Image {
    /// From a reference without `oci://`; the login is looked up, nothing is asked for yet.
    ///
    /// # Errors
    /// One sentence about the reference or the login.
    pub(in crate::cli) fn named(reference: &str) -> Result<Self, CommandError> {
        let reference = parse(reference)?;
        let registry = reference.registry().to_owned();
        let auth = credentials::of(&registry)?;
        // In the clear only where nobody else listens.
        let protocol = if is_loopback(host_of(&registry)) { ClientProtocol::Http } else { ClientProtocol::Https };
        install_tls();
        let config = ClientConfig {
            protocol,
            read_timeout: Some(IDLE_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)
            .map_err(|error| CommandError::failed(format!("the registry's client cannot be made: {error}")))?;
        Ok(Self { reference, auth, client })
    }

    async fn pull(&self) -> Result<Component, CommandError> {
        let shown = shown(&self.reference);
        output::progress(&format!("asking for {shown}"));
        let manifest = self.manifest().await?;
        let digest = Sha256Digest::of(&manifest);
        if let Some(wanted) = self.reference.digest() {
            Sha256Digest::parse(wanted)?.check(&shown, &manifest)?;
        }
        let layer = component_layer(&manifest).map_err(|fault| CommandError::failed(format!("{shown} {fault}")))?;
        check_size(&shown, layer.size)?;
        output::progress(&format!("pulling {}", output::size(layer.size)));
        let asked = self.client.pull_blob_stream(&self.reference, layer.digest.as_str()).await;
        let mut stream = asked.map_err(|error| self.refusal(&error))?.stream;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let is_whole = bytes.len() as u64 >= layer.size;
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                // It is held against its digest below, for a clearer sentence.
                Err(_) if is_whole => break,
                Err(error) => return Err(CommandError::failed(format!("{shown} broke off: {error}"))),
            }
            if bytes.len() as u64 > layer.size {
                break;
            }
        }
        Sha256Digest::parse(&layer.digest)?.check(&shown, &bytes)?;
        Ok(Component { bytes, source: pinned(&self.reference, &digest), signature: None })
    }

    /// The manifest behind the reference. Read here, since the library sets no bound to it.
    async fn manifest(&self) -> Result<Vec<u8>, CommandError> {
        let registry = self.reference.resolve_registry();
        let asked = self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await;
        let token = asked.map_err(|error| self.refusal(&error))?;
        let scheme = if is_loopback(host_of(registry)) { "http" } else { "https" };
        let name = self.reference.digest().or(self.reference.tag()).unwrap_or_default();
        let url = format!("{scheme}://{registry}/v2/{}/manifests/{name}", self.reference.repository());
        let request = http_client(redirects(false))?.get(url).header(header::ACCEPT, MANIFEST_TYPES.join(", "));
        let request = match (token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(name, password)) => request.basic_auth(name, Some(password)),
            (None, _) => request,
        };
        let mut response = request.send().await.map_err(|error| self.refusal(&error.into()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(self.missing()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.no_entry()),
            status => return Err(CommandError::failed(format!("{registry} answers {status}"))),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.refusal(&error.into()))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MANIFEST_BYTES_MAX {
                let shown = shown(&self.reference);
                return Err(CommandError::failed(format!(
                    "{shown} has a manifest of more than {MANIFEST_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(bytes)
    }

    /// Stores a component under the tag, with its configuration, and a name for tools that write it to a file. Returns the
    /// reference with the digest of its manifest.
    ///
    /// # Errors
    /// One sentence: no tag, or what the registry has against it.
    pub(in crate::cli) async fn push(
        &self,
        component: Vec<u8>,
        config: Vec<u8>,
        title: &str,
    ) -> Result<String, CommandError> {
        if self.reference.digest().is_some() {
            return Err(CommandError::usage(
                "the digest comes of what is pushed; name a tag, as oci://registry/name:tag",
            ));
        }
        within_time(self, self.push_parts(component, config, title)).await
    }

    async fn push_parts(&self, component: Vec<u8>, config: Vec<u8>, title: &str) -> Result<String, CommandError> {
        let refused = |error: OciDistributionError| self.refusal(&error);
        self.client.auth(&self.reference, &self.auth, RegistryOperation::Push).await.map_err(refused)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": CONFIG_TYPE,
                "digest": Sha256Digest::of(&config).to_string(),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": LAYER_TYPES.first(),
                "digest": Sha256Digest::of(&component).to_string(),
                "size": component.len(),
                "annotations": { "org.opencontainers.image.title": title },
            }],
        });
        for part in [Bytes::from(component), Bytes::from(config)] {
            let digest = Sha256Digest::of(&part).to_string();
            self.client.push_blob(&self.reference, part, &digest).await.map_err(refused)?;
        }
        let manifest = manifest.to_string().into_bytes();
        let digest = Sha256Digest::of(&manifest);
        let content_type = HeaderValue::from_static(MANIFEST_TYPE);
        self.client.push_manifest_raw(&self.reference, manifest, content_type).await.map_err(refused)?;
        Ok(pinned(&self.reference, &digest))
    }

    /// What a registry's answer means, as a sentence with the next step.
    fn refusal(&self, error: &OciDistributionError) -> CommandError {
        let registry = self.reference.registry();
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401 | 403, .. } => self.no_entry(),
            OciDistributionError::ServerError { code: 404, .. } => self.missing(),
            OciDistributionError::RegistryError { envelope, .. } => {
                let says = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                if says(&[OciErrorCode::BlobUnknown, OciErrorCode::NameUnknown]) {
                    self.missing()
                } else if says(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    self.no_entry()
                } else {
                    CommandError::failed(format!("{registry} refuses: {}", plain(&envelope.to_string())))
                }
            }
            OciDistributionError::RequestError(error) => {
                CommandError::failed(format!("{registry} cannot be reached: {}", reason(error)))
            }
            other => CommandError::failed(format!("{registry}: {}", plain(&other.to_string()))),
        }
    }

    fn missing(&self) -> CommandError {
        CommandError::failed(format!("there is no {}", shown(&self.reference)))
    }

    fn no_entry(&self) -> CommandError {
        let registry = self.reference.registry();
        CommandError::failed(match self.auth {
            RegistryAuth::Anonymous => {
                format!("{registry} wants to know who asks; log in first, as with `docker login {registry}`")
            }
            _ => format!(
                "{registry} does not let the login that is kept for it do that; log in again, or as somebody else"
            ),
        })
    }
}

/// A reference whose registry is named: nothing is looked for where nobody said.
fn parse(text: &str) -> Result<Reference, CommandError> {
    let wrong = |fault: &str| {
        CommandError::usage(format!(
            "oci://{text} is no image in a registry, as oci://registry/name:tag or oci://registry/name@sha256:…: {fault}"
        ))
    };
    let registry = text.split_once('/').map(|(registry, _)| registry);
    if !registry.is_some_and(|registry| registry == "localhost" || registry.contains(['.', ':'])) {
        return Err(wrong("the registry is missing"));
    }
    let reference = Reference::try_from(text).map_err(|error| wrong(&error.to_string()))?;
    if reference.digest().is_some_and(|digest| Sha256Digest::parse(digest).is_err()) {
        return Err(wrong("the digest must be sha256"));
    }
    Ok(reference)
}

/// A registry's name without its port.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

/// The reference as it was meant.
fn shown(reference: &Reference) -> String {
    let digest = reference.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{}{digest}", tagged(reference))
}

/// The reference, and which image stood behind it.
fn pinned(reference: &Reference, digest: &Sha256Digest) -> String {
    format!("{}@{digest}", tagged(reference))
}

fn tagged(reference: &Reference) -> String {
    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("oci://{}/{}{tag}", reference.registry(), reference.repository())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// Only an index has them.
    manifests: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    /// Bytes.
    size: u64,
}

/// The layer that is the component. What the configuration is called says nothing more: `oras` writes an empty one.
fn component_layer(manifest: &[u8]) -> Result<Descriptor, String> {
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|_| "has a manifest that cannot be read".to_owned())?;
    if manifest.manifests.is_some() {
        return Err("is a list of several images; name one of them by its digest".to_owned());
    }
    let (mut found, others): (Vec<_>, Vec<_>) =
        manifest.layers.into_iter().partition(|layer| LAYER_TYPES.contains(&layer.media_type.as_str()));
    match (found.pop(), found.is_empty()) {
        (Some(layer), true) if Sha256Digest::parse(&layer.digest).is_ok() => Ok(layer),
        (Some(_), true) => Err("has a layer whose digest is not sha256".to_owned()),
        (Some(_), false) => Err("holds several components; an image for Berth holds one".to_owned()),
        (None, _) if others.is_empty() => Err("holds nothing".to_owned()),
        (None, _) => {
            let types: Vec<&str> =
                others.iter().take(LAYERS_NAMED_MAX).map(|layer| layer.media_type.as_str()).collect();
            Err(format!(
                "holds no component: its layers are {} and not {}",
                plain(&types.join(", ")),
                LAYER_TYPES.join(" or ")
            ))
        }
    }
}

/// A registry's words, harmless on a terminal.
fn plain(text: &str) -> String {
    text.chars().take(WORDS_CHARS_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_reference_names_its_registry() {
        for (text, expected) in [
            ("ghcr.io/acme/planning:1.2", "oci://ghcr.io/acme/planning:1.2".to_owned()),
            ("localhost/planning", "oci://localhost/planning:latest".to_owned()),
            ("127.0.0.1:5000/a/b:c", "oci://127.0.0.1:5000/a/b:c".to_owned()),
            (&format!("ghcr.io/a/b@sha256:{DIGITS}"), format!("oci://ghcr.io/a/b@sha256:{DIGITS}")),
            (&format!("ghcr.io/a/b:c@sha256:{DIGITS}"), format!("oci://ghcr.io/a/b:c@sha256:{DIGITS}")),
        ] {
            assert_eq!(shown(&parse(text).unwrap()), expected);
        }
        let bad = ["planning", "planning:1", "acme/planning:1", "ghcr.io/", "ghcr.io/A B", "ghcr.io/a@sha256:12", ""];
        for text in bad {
            assert!(matches!(parse(text), Err(CommandError::Usage(_))), "{text}");
        }
    }

    #[test]
    fn what_was_found_is_pinned() {
        let digest = Sha256Digest::of(b"abc");
        let reference = parse("127.0.0.1:5000/planning:1").unwrap();
        let pinned = pinned(&reference, &digest);
        assert_eq!(pinned, format!("oci://127.0.0.1:5000/planning:1@sha256:{DIGITS}"));
        let again = parse(pinned.strip_prefix("oci://").unwrap()).unwrap();
        assert_eq!(again.digest(), Some(digest.to_string().as_str()), "what is written down can be deployed again");
    }

    #[test]
    fn only_this_machine_is_asked_in_the_clear() {
        for (registry, is_here) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("localhost", true),
            ("ghcr.io", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(host_of(registry)), is_here, "{registry}");
        }
    }

    fn manifest(types: &[&str]) -> Vec<u8> {
        let layers: Vec<_> = types
            .iter()
            .map(|media_type| json!({"mediaType": media_type, "digest": format!("sha256:{DIGITS}"), "size": 3}))
            .collect();
        json!({"schemaVersion": 2, "config": {"mediaType": CONFIG_TYPE}, "layers": layers}).to_string().into_bytes()
    }

    #[test]
    fn an_image_holds_one_component() {
        for types in [&["application/wasm"][..], &["text/plain", "application/vnd.wasm.content.layer.v1+wasm"]] {
            assert_eq!(component_layer(&manifest(types)).unwrap().size, 3);
        }
        let index = json!({"schemaVersion": 2, "manifests": []}).to_string().into_bytes();
        let md5 = String::from_utf8(manifest(&["application/wasm"])).unwrap().replace("sha256:", "md5:").into_bytes();
        for (manifest, word) in [
            (manifest(&[]), "holds nothing"),
            (manifest(&["application/wasm", "application/wasm"]), "several components"),
            (manifest(&["application/vnd.oci.image.layer.v1.tar+gzip"]), "layer.v1.tar+gzip and not application/wasm"),
            (manifest(&["a\u{1b}[2Jb"]), "a [2Jb"),
            (index, "several images"),
            (md5, "not sha256"),
            (b"<html>".to_vec(), "cannot be read"),
        ] {
            let refusal = component_layer(&manifest).unwrap_err();
            assert!(refusal.contains(word), "{refusal}");
        }
    }
}
