//! TLS on the gateway: certificate and key from files, taken again when the files change.
//!
//! A changed file that cannot be used never replaces what works.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Handshake, Handshaken, Stream};
use crate::tasks::Tasks;

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{path} holds no usable {what}")]
    File { path: String, what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("certificate and key do not belong together")]
    Pair(#[source] rustls::Error),
}

/// The gateway's certificate.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

/// When each of the two files was last changed.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

impl Tls {
    /// Reads certificate chain and key, both PEM.
    ///
    /// # Errors
    /// When a file cannot be read or used, or the two do not belong together.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let config = ArcSwap::from_pointee(read(certificate, key)?);
        Ok(Arc::new(Self { certificate: certificate.to_owned(), key: key.to_owned(), config }))
    }

    /// Watches the files for as long as the host lives.
    pub(crate) fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let tls = Arc::clone(self);
        tasks.supervise("tls-reload", move |stop| {
            let tls = Arc::clone(&tls);
            async move {
                let mut seen = tls.stamp();
                while stop.run_until_cancelled(tokio::time::sleep(RELOAD_INTERVAL)).await.is_some() {
                    let stamp = tls.stamp();
                    if stamp != seen {
                        // Noted even when it fails: said once, and tried again at the next change.
                        seen = stamp;
                        tls.reload();
                    }
                }
            }
        });
    }

    /// Takes the files as they are now, for new connections; what cannot be used is logged and left.
    pub(crate) fn reload(&self) {
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!(target: "gateway", "the certificate was loaded again");
            }
            Err(error) => {
                tracing::error!(target: "gateway", %error, "the changed certificate is not used; the old one stays")
            }
        }
    }

    fn stamp(&self) -> Stamp {
        let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        (changed(&self.certificate), changed(&self.key))
    }
}

impl Handshake for Tls {
    fn accept(&self, stream: TcpStream) -> Handshaken {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        Box::pin(async move {
            let stream = acceptor.accept(stream).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let bad = |path: &Path, what, source| TlsError::File { path: path.display().to_string(), what, source };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad(certificate, "certificate", error.into()))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, "private key", error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
