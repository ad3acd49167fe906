//! What the vault promises, over every store of keys.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::backend::{KeyStore, WrappedKey};
use super::*;
use crate::bindings::imports::secrets::Host as _;
use crate::bindings::imports::types::Fault;
use crate::capability::grant::Grant;
use crate::capability::testing;
use crate::database::HOST_MIGRATIONS;

/// A store in memory.
#[derive(Default)]
struct KeyMap {
    keys: Mutex<HashMap<String, (WrappedKey, bool)>>,
}

#[async_trait]
impl KeyStore for KeyMap {
    async fn active(&self, purpose: &str, organization: &str) -> Result<Option<WrappedKey>, VaultError> {
        let keys = self.keys.lock();
        let found =
            keys.values().find(|(key, active)| *active && key.purpose == purpose && key.organization == organization);
        Ok(found.map(|(key, _)| key.clone()))
    }

    async fn by_id(&self, id: &str) -> Result<Option<WrappedKey>, VaultError> {
        Ok(self.keys.lock().get(id).map(|(key, _)| key.clone()))
    }

    async fn insert(&self, key: WrappedKey) -> Result<WrappedKey, VaultError> {
        if let Some(winner) = self.active(&key.purpose, &key.organization).await? {
            return Ok(winner);
        }
        self.keys.lock().insert(key.id.clone(), (key.clone(), true));
        Ok(key)
    }
}

fn master(digit: &str) -> MasterKey {
    MasterKey::parse(&digit.repeat(64)).unwrap()
}

/// Every store that can be had.
async fn stores() -> Vec<Arc<dyn KeyStore>> {
    let database = Database::open_in_memory().await;
    database.migrate("host", HOST_MIGRATIONS).await.unwrap();
    vec![Arc::new(KeyMap::default()), Arc::new(tables::KeyTable::new(database))]
}

async fn vaults() -> Vec<Vault> {
    let mut vaults = Vec::new();
    for store in stores().await {
        vaults.push(Vault::over(store, master("a")).await.unwrap());
    }
    vaults
}

#[tokio::test]
async fn what_is_sealed_opens_only_for_the_same_purpose_organization_and_context() {
    for vault in vaults().await {
        let sealed = vault.seal("plugin/a", Some("org-1"), "row-1", b"secret").await.unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(vault.open("plugin/a", Some("org-1"), "row-1", &sealed).await.unwrap(), b"secret");
        for (purpose, organization, context) in [
            ("plugin/b", Some("org-1"), "row-1"),
            ("host", Some("org-1"), "row-1"),
            ("plugin/a", Some("org-2"), "row-1"),
            ("plugin/a", None, "row-1"),
            ("plugin/a", Some("org-1"), "row-2"),
            ("plugin/a", Some("org-1"), ""),
            ("plugin/a", Some("org-1r"), "ow-1"),
        ] {
            let answer = vault.open(purpose, organization, context, &sealed).await;
            assert!(matches!(answer, Err(VaultError::Invalid(_))), "{purpose} {organization:?} {context}");
        }
    }
}

#[tokio::test]
async fn one_changed_bit_anywhere_is_noticed() {
    for vault in vaults().await {
        let sealed = vault.seal(HOST, None, "", b"x").await.unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(vault.open(HOST, None, "", &changed).await, Err(VaultError::Invalid(_))), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(vault.open(HOST, None, "", &sealed[..length]).await.is_err(), "{length} bytes");
        }
        assert_ne!(sealed, vault.seal(HOST, None, "", b"x").await.unwrap(), "no two nonces agree");
    }
}

#[tokio::test]
async fn a_restart_with_the_same_master_key_opens_and_with_another_says_so() {
    for store in stores().await {
        let before = Vault::over(store.clone(), master("a")).await.unwrap();
        let sealed = before.seal(HOST, Some("org-1"), "c", b"kept").await.unwrap();
        let mac = before.hmac(HOST, Some("org-1"), "k", b"data").await.unwrap();
        let after = Vault::over(store.clone(), master("a")).await.unwrap();
        assert_eq!(after.open(HOST, Some("org-1"), "c", &sealed).await.unwrap(), b"kept");
        assert_eq!(after.hmac(HOST, Some("org-1"), "k", b"data").await.unwrap(), mac);
        assert!(matches!(Vault::over(store, master("b")).await, Err(VaultError::WrongMasterKey)));
    }
}

#[tokio::test]
async fn many_at_once_agree_on_one_key() {
    for store in stores().await {
        let tasks = (0..16).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let vault = Vault::over(store, master("a")).await.unwrap();
                vault.seal("plugin/a", Some("org-1"), "c", b"x").await.unwrap()
            })
        });
        let reader = Vault::over(store.clone(), master("a")).await.unwrap();
        let mut ids = std::collections::HashSet::new();
        for task in tasks.collect::<Vec<_>>() {
            let sealed = task.await.unwrap();
            ids.insert(sealed::key_id(&sealed).unwrap());
            assert_eq!(reader.open("plugin/a", Some("org-1"), "c", &sealed).await.unwrap(), b"x");
        }
        assert_eq!(ids.len(), 1);
    }
}

#[tokio::test]
async fn signatures_differ_by_plugin_organization_name_and_data() {
    for vault in vaults().await {
        let mac = vault.hmac("plugin/a", Some("org-1"), "hook", b"data").await.unwrap();
        assert!(vault.verify_hmac("plugin/a", Some("org-1"), "hook", b"data", &mac).await.unwrap());
        for (purpose, organization, name, data) in [
            ("plugin/b", Some("org-1"), "hook", "data"),
            ("plugin/a", Some("org-2"), "hook", "data"),
            ("plugin/a", None, "hook", "data"),
            ("plugin/a", Some("org-1"), "hook2", "data"),
            ("plugin/a", Some("org-1"), "hook", "datb"),
        ] {
            assert!(!vault.verify_hmac(purpose, organization, name, data.as_bytes(), &mac).await.unwrap());
        }
        assert!(!vault.verify_hmac("plugin/a", Some("org-1"), "hook", b"data", &mac[..31]).await.unwrap());
        assert!(!vault.verify_hmac("plugin/a", Some("org-1"), "hook", b"data", &[]).await.unwrap());
    }
}

#[tokio::test]
async fn a_guest_seals_for_itself_and_only_with_the_grant() {
    for vault in vaults().await {
        let credentials = Credentials::default();
        let (mine, other) = (testing::guest("planning", Some("org-1")), testing::guest("ai-service", Some("org-1")));
        let sealed = View { guest: &mine, room: &vault, credentials: &credentials }
            .seal(b"x".to_vec(), "c".into())
            .await
            .unwrap()
            .unwrap();
        let opened = View { guest: &mine, room: &vault, credentials: &credentials }
            .open(sealed.clone(), "c".into())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(opened, b"x");
        let answer =
            View { guest: &other, room: &vault, credentials: &credentials }.open(sealed, "c".into()).await.unwrap();
        assert!(matches!(answer, Err(Fault::Invalid(_))));
        let bare = testing::guest_with("planning", Some("org-1"), Grant::default());
        let answer = View { guest: &bare, room: &vault, credentials: &credentials }
            .seal(b"x".to_vec(), "c".into())
            .await
            .unwrap();
        assert!(matches!(answer, Err(Fault::Denied(_))));
        assert!(matches!(
            View { guest: &bare, room: &vault, credentials: &credentials }.random(8).await.unwrap(),
            Err(Fault::Denied(_))
        ));
    }
}

#[tokio::test]
async fn limits_are_named_and_random_bytes_are_random() {
    for vault in vaults().await {
        let large = vec![0; PLAINTEXT_BYTES_MAX];
        let sealed = vault.seal(HOST, None, "c", &large).await.unwrap();
        assert_eq!(vault.open(HOST, None, "c", &sealed).await.unwrap(), large);
        let over = vec![0; PLAINTEXT_BYTES_MAX + 1];
        assert!(matches!(vault.seal(HOST, None, "c", &over).await, Err(VaultError::TooLarge { .. })));
        let context = "c".repeat(CONTEXT_BYTES_MAX + 1);
        assert!(matches!(vault.seal(HOST, None, &context, b"").await, Err(VaultError::TooLarge { .. })));
        assert_eq!(vault.random(1024).unwrap().len(), 1024);
        assert_ne!(vault.random(32).unwrap(), vault.random(32).unwrap());
        assert!(vault.random(0).is_err() && vault.random(1025).is_err());
    }
}
