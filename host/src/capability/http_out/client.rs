//! The pooled client: one for each plugin and its list of private addresses, so that a connection is only ever used again
//! by those who might have made it.
//!
//! Names are resolved here and the connection is made to exactly the addresses that were allowed.

use std::error::Error;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use http_body_util::BodyExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::CONNECT_TIMEOUT;
use super::address::AddressPolicy;
use super::backend::EgressError;
use super::policy::External;
use super::replay::Attempt;
use crate::body::{Body, BodyError};
use crate::capability::Plugin;

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept to one host.
const IDLE_PER_HOST_MAX: usize = 32;

/// Names resolved at once. The system's resolver holds a thread for each, even after its asker has gone away.
const LOOKUPS_MAX: usize = 64;
/// Of these for one plugin: names whose servers never answer must not keep the others from theirs.
const LOOKUPS_EACH_MAX: usize = 16;

/// One client for each plugin and what `outbound_private` it was granted; there are about as many of them as plugins.
pub(super) struct Clients {
    by_plugin: DashMap<(Arc<str>, Vec<String>), Arc<Client>>,
    lookups: Arc<Semaphore>,
}

struct Client {
    http: reqwest::Client,
    addresses: AddressPolicy,
}

/// Resolves names to allowed addresses only.
struct CheckedResolver {
    addresses: AddressPolicy,
    /// The plugin's own places, and everybody's.
    own_lookups: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { by_plugin: DashMap::new(), lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

impl Clients {
    /// Sends one attempt.
    pub(super) async fn send(
        &self,
        plugin: &Plugin,
        target: &External,
        request: http::Request<Attempt>,
    ) -> Result<http::Response<Body>, EgressError> {
        let client = self.of(plugin)?;
        let (head, body) = request.into_parts();
        let url = target.url(&head.uri)?;
        // A host that is an address never passes the resolver, so it is judged here; in the form the client will use,
        // because there are many ways to write one.
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>()
            && !client.addresses.allows(address)
        {
            return Err(EgressError::AddressDenied);
        }
        let mut outgoing = reqwest::Request::new(head.method, url);
        *outgoing.headers_mut() = head.headers;
        // The client writes it itself, from the address that was judged.
        outgoing.headers_mut().remove(http::header::HOST);
        *outgoing.body_mut() = Some(reqwest::Body::wrap(body));
        let response = client.http.execute(outgoing).await.map_err(classified)?;
        Ok(http::Response::from(response).map(|body| body.map_err(broken).boxed_unsync()))
    }

    fn of(&self, plugin: &Plugin) -> Result<Arc<Client>, EgressError> {
        let private = &plugin.grant.outbound_private;
        let name = (plugin.name.clone(), private.clone());
        if let Some(client) = self.by_plugin.get(&name) {
            return Ok(client.clone());
        }
        let client = Arc::new(Client::new(AddressPolicy::new(private), self.lookups.clone())?);
        Ok(self.by_plugin.entry(name).or_insert(client).clone())
    }
}

impl Client {
    fn new(addresses: AddressPolicy, lookups: Arc<Semaphore>) -> Result<Self, EgressError> {
        let http = reqwest::Client::builder()
            .dns_resolver(Arc::new(CheckedResolver::new(addresses.clone(), lookups)))
            .tls_backend_preconfigured(tls()?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .build()
            .map_err(|error| EgressError::Broken(Some(error.into())))?;
        Ok(Self { http, addresses })
    }
}

impl CheckedResolver {
    fn new(addresses: AddressPolicy, lookups: Arc<Semaphore>) -> Self {
        Self { addresses, own_lookups: Arc::new(Semaphore::new(LOOKUPS_EACH_MAX)), lookups }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (addresses, own_lookups, lookups) =
            (self.addresses.clone(), self.own_lookups.clone(), self.lookups.clone());
        Box::pin(async move {
            // Its own place first: whoever waits for that takes up none of the others'.
            let own = own_lookups.acquire_owned().await.map_err(|_| EgressError::Resolve(None))?;
            let shared = lookups.acquire_owned().await.map_err(|_| EgressError::Resolve(None))?;
            let looked_up = tokio::task::spawn_blocking(move || {
                let _permits = (own, shared);
                // The port is the client's to set.
                (name.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>)
            });
            let found = match looked_up.await {
                Ok(found) => found.map_err(|error| EgressError::Resolve(Some(error.into())))?,
                Err(error) => return Err(EgressError::Resolve(Some(error.into())).into()),
            };
            if found.is_empty() {
                return Err(EgressError::Resolve(None).into());
            }
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|found| addresses.allows(found.ip())).collect();
            if allowed.is_empty() {
                return Err(EgressError::AddressDenied.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// TLS 1.2 and 1.3 with the public roots, whatever else this process has installed.
pub(crate) fn tls() -> Result<rustls::ClientConfig, EgressError> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EgressError::Broken(Some(error.into())))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What the client's error means; found by type along its sources, never by text.
fn classified(error: reqwest::Error) -> EgressError {
    // Its text would name the address, and a credential may be part of that.
    let error = error.without_url();
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    let mut malformed = false;
    while let Some(cause) = source {
        match cause.downcast_ref::<EgressError>() {
            Some(EgressError::AddressDenied) => return EgressError::AddressDenied,
            Some(EgressError::Resolve(_)) => return EgressError::Resolve(Some(error.into())),
            _ => {}
        }
        if let Some(cause) = cause.downcast_ref::<hyper::Error>() {
            malformed |= cause.is_parse() || cause.is_user();
        }
        source = cause.source();
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => EgressError::ConnectTimeout,
        (true, false) => EgressError::Timeout,
        (false, true) => EgressError::Connect(Some(error.into())),
        (false, false) if malformed || error.is_builder() => EgressError::Broken(Some(error.into())),
        (false, false) => EgressError::Lost(Some(error.into())),
    }
}

fn broken(error: reqwest::Error) -> BodyError {
    EgressError::Broken(Some(error.without_url().into())).into()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_plugin_whose_names_are_slow_waits_for_itself_alone() {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let private = AddressPolicy::new(&["127.0.0.0/8".to_owned(), "::1".to_owned()]);
        let resolver = || CheckedResolver::new(private.clone(), lookups.clone());
        let (slow, other) = (resolver(), resolver());
        // As many lookups as the one may have are under way and do not end.
        let each = u32::try_from(LOOKUPS_EACH_MAX).unwrap();
        let _own = slow.own_lookups.acquire_many(each).await.unwrap();
        let _shared = lookups.acquire_many(each).await.unwrap();
        let mut waiting: Vec<_> = (0..LOOKUPS_MAX).map(|_| slow.resolve("localhost".parse().unwrap())).collect();
        for resolving in &mut waiting {
            assert!(resolving.as_mut().now_or_never().is_none());
        }
        assert_eq!(lookups.available_permits(), LOOKUPS_MAX - LOOKUPS_EACH_MAX);
        assert!(other.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
