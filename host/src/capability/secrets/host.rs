//! `berth:platform/secrets`: checks the grant and asks the vault, always for the running plugin and organization.

use subtle::ConstantTimeEq;
use wasmtime::component::{HasData, Linker};

use super::backend::VaultError;
use super::{View, hmac_with, plugin_purpose, shared_purpose};
use crate::bindings::imports::secrets;
use crate::bindings::imports::types::Fault;
use crate::capability::credentials::CredentialError;
use crate::capability::tape::Taped;

struct HasView;

impl HasData for HasView {
    type Data<'a> = Taped<'a, View<'a>>;
}

/// Links the interface; `get` borrows the room's view from the store's state.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> Taped<'_, View<'_>>,
) -> wasmtime::Result<()> {
    secrets::add_to_linker::<T, HasView>(linker, get)
}

impl View<'_> {
    fn purpose(&self) -> Result<String, Fault> {
        if !self.guest.plugin.grant.secrets {
            return Err(Fault::Denied("the grant lacks secrets = true".to_owned()));
        }
        Ok(plugin_purpose(&self.guest.plugin.name))
    }

    fn organization(&self) -> Option<&str> {
        self.guest.call.principal.organization_id.as_deref()
    }

    async fn sealed(&self, plaintext: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
        let purpose = self.purpose()?;
        self.room.seal(&purpose, self.organization(), context, plaintext).await.map_err(fault)
    }

    async fn opened(&self, sealed: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
        let purpose = self.purpose()?;
        self.room.open(&purpose, self.organization(), context, sealed).await.map_err(fault)
    }

    async fn signed(&self, key_name: &str, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let purpose = self.purpose()?;
        let mac = self.room.hmac(&purpose, self.organization(), key_name, data).await.map_err(fault)?;
        Ok(mac.to_vec())
    }

    async fn sealed_shared(&self, plaintext: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
        self.purpose()?;
        let purpose = shared_purpose(&self.guest.plugin.name);
        self.room.seal(&purpose, None, context, plaintext).await.map_err(fault)
    }

    async fn opened_shared(&self, sealed: &[u8], context: &str) -> Result<Vec<u8>, Fault> {
        self.purpose()?;
        let purpose = shared_purpose(&self.guest.plugin.name);
        self.room.open(&purpose, None, context, sealed).await.map_err(fault)
    }

    async fn signed_with(&self, secret: &str, organization: Option<&str>, data: &[u8]) -> Result<[u8; 32], Fault> {
        self.purpose()?;
        let key = self.credentials.key(self.guest, secret, organization).await.map_err(|error| match error {
            CredentialError::Refused => Fault::Denied("the secret cannot be used by this plugin here".to_owned()),
            CredentialError::Malformed => Fault::Invalid("the id of a secret is malformed".to_owned()),
            CredentialError::Unreachable => Fault::Unavailable,
        })?;
        hmac_with(&key, data).map_err(fault)
    }

    async fn verified(&self, key_name: &str, data: &[u8], mac: &[u8]) -> Result<bool, Fault> {
        let purpose = self.purpose()?;
        self.room.verify_hmac(&purpose, self.organization(), key_name, data, mac).await.map_err(fault)
    }
}

impl secrets::Host for View<'_> {
    async fn seal(&mut self, plaintext: Vec<u8>, context: String) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let plaintext = zeroize::Zeroizing::new(plaintext);
        Ok(self.sealed(&plaintext, &context).await)
    }

    async fn open(&mut self, sealed: Vec<u8>, context: String) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        Ok(self.opened(&sealed, &context).await)
    }

    async fn hmac(&mut self, key_name: String, data: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        Ok(self.signed(&key_name, &data).await)
    }

    async fn verify_hmac(
        &mut self,
        key_name: String,
        data: Vec<u8>,
        mac: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, Fault>> {
        Ok(self.verified(&key_name, &data, &mac).await)
    }

    async fn seal_shared(&mut self, plaintext: Vec<u8>, context: String) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let plaintext = zeroize::Zeroizing::new(plaintext);
        Ok(self.sealed_shared(&plaintext, &context).await)
    }

    async fn open_shared(&mut self, sealed: Vec<u8>, context: String) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        Ok(self.opened_shared(&sealed, &context).await)
    }

    async fn hmac_with_secret(
        &mut self,
        secret_id: String,
        organization_id: Option<String>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let mac = self.signed_with(&secret_id, organization_id.as_deref(), &data).await;
        Ok(mac.map(|mac| mac.to_vec()))
    }

    async fn verify_hmac_with_secret(
        &mut self,
        secret_id: String,
        organization_id: Option<String>,
        data: Vec<u8>,
        mac: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, Fault>> {
        let expected = self.signed_with(&secret_id, organization_id.as_deref(), &data).await;
        Ok(expected.map(|expected| expected.ct_eq(&mac).into()))
    }

    async fn random(&mut self, count: u32) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        if let Err(denied) = self.purpose() {
            return Ok(Err(denied));
        }
        Ok(self.room.random(count).map_err(fault))
    }
}

fn fault(error: VaultError) -> Fault {
    match error {
        VaultError::Invalid(text) => Fault::Invalid(text.to_owned()),
        VaultError::TooLarge { .. } => Fault::TooLarge(error.to_string()),
        VaultError::Unavailable(source) => {
            tracing::warn!(reason = source.map(|source| source.to_string()), "the vault's keys cannot be reached");
            Fault::Unavailable
        }
        VaultError::WrongMasterKey | VaultError::MasterKey(_) | VaultError::Internal(_) => {
            tracing::error!(reason = %error, "the vault failed");
            Fault::Unavailable
        }
    }
}
