//! The standard interfaces as calls to the rooms.

use wasmtime::component::{HasData, Linker, Resource};

use super::{BATCH_MAX, BUCKETS, Bucket, ConfigView, KeyValueView, LoggingView, TTL_MS};
use crate::bindings::imports::cache;
use crate::bindings::imports::types::Fault;
use crate::bindings::shims::keyvalue::store::{Error, KeyResponse};
use crate::bindings::shims::keyvalue::{atomics, batch, store};
use crate::bindings::shims::{config, logging};
use crate::capability::logging::Level;

/// The store's table of resources.
pub(super) type Table = wasmtime::component::ResourceTable;

struct HasKeyValue;
struct HasConfig;
struct HasLogging;

impl HasData for HasKeyValue {
    type Data<'a> = KeyValueView<'a>;
}

impl HasData for HasConfig {
    type Data<'a> = ConfigView<'a>;
}

impl HasData for HasLogging {
    type Data<'a> = LoggingView<'a>;
}

/// Links `wasi:keyvalue`: only where the grant has the cache.
pub(crate) fn link_keyvalue<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> KeyValueView<'_>,
) -> wasmtime::Result<()> {
    store::add_to_linker::<T, HasKeyValue>(linker, get)?;
    atomics::add_to_linker::<T, HasKeyValue>(linker, get)?;
    batch::add_to_linker::<T, HasKeyValue>(linker, get)
}

/// Links `wasi:config`.
pub(crate) fn link_config<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> ConfigView<'_>,
) -> wasmtime::Result<()> {
    config::add_to_linker::<T, HasConfig>(linker, get)
}

/// Links `wasi:logging`.
pub(crate) fn link_logging<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> LoggingView<'_>,
) -> wasmtime::Result<()> {
    logging::add_to_linker::<T, HasLogging>(linker, get)
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        if !BUCKETS.contains(&identifier.as_str()) {
            return Ok(Err(Error::NoSuchStore));
        }
        if !self.cache.inner.guest.plugin.grant.cache {
            return Ok(Err(Error::AccessDenied));
        }
        Ok(Ok(self.table.push(Bucket)?))
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, _: Resource<Bucket>, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        Ok(cache::Host::get(&mut self.cache, key).await?.map_err(refused))
    }

    async fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        Ok(cache::Host::set(&mut self.cache, key, value, TTL_MS).await?.map_err(refused))
    }

    async fn delete(&mut self, _: Resource<Bucket>, key: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(cache::Host::delete(&mut self.cache, key).await?.map_err(refused))
    }

    async fn exists(&mut self, _: Resource<Bucket>, key: String) -> wasmtime::Result<Result<bool, Error>> {
        Ok(cache::Host::get(&mut self.cache, key).await?.map(|value| value.is_some()).map_err(refused))
    }

    async fn list_keys(
        &mut self,
        _: Resource<Bucket>,
        _cursor: Option<u64>,
    ) -> wasmtime::Result<Result<KeyResponse, Error>> {
        Ok(Err(Error::Other("this store does not list its keys".to_owned())))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(
        &mut self,
        _: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let Ok(delta) = i64::try_from(delta) else {
            return Ok(Err(Error::Other("the delta is too large".to_owned())));
        };
        let sum = cache::Host::increment(&mut self.cache, key, delta, TTL_MS).await?.map_err(refused);
        let negative = || Error::Other("the value is not a whole number of this store".to_owned());
        Ok(sum.and_then(|sum| u64::try_from(sum).map_err(|_| negative())))
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        _: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, Error>> {
        let values = cache::Host::get_many(&mut self.cache, keys.clone()).await?.map_err(refused);
        let paired = |values: Vec<Option<Vec<u8>>>| {
            keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, value))).collect()
        };
        Ok(values.map(paired))
    }

    async fn set_many(
        &mut self,
        _: Resource<Bucket>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if key_values.len() > BATCH_MAX {
            return Ok(Err(too_many()));
        }
        for (key, value) in key_values {
            if let Err(fault) = cache::Host::set(&mut self.cache, key, value, TTL_MS).await? {
                return Ok(Err(refused(fault)));
            }
        }
        Ok(Ok(()))
    }

    async fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> wasmtime::Result<Result<(), Error>> {
        if keys.len() > BATCH_MAX {
            return Ok(Err(too_many()));
        }
        for key in keys {
            if let Err(fault) = cache::Host::delete(&mut self.cache, key).await? {
                return Ok(Err(refused(fault)));
            }
        }
        Ok(Ok(()))
    }
}

impl config::Host for ConfigView<'_> {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, config::Error>> {
        Ok(Ok(self.0.setting(&key).map(str::to_owned)))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::Error>> {
        Ok(Ok(self.0.settings().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }
}

impl logging::Host for LoggingView<'_> {
    async fn log(&mut self, level: logging::Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Trace | logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error | logging::Level::Critical => Level::Error,
        };
        let fields = if context.is_empty() { Vec::new() } else { vec![("context".to_owned(), context)] };
        self.0.room.write(self.0.guest, level, message, fields);
        Ok(())
    }
}

fn too_many() -> Error {
    Error::Other(format!("at most {BATCH_MAX} keys at once"))
}

fn refused(fault: Fault) -> Error {
    match fault {
        Fault::Denied(_) => Error::AccessDenied,
        Fault::Conflict(text) | Fault::TooLarge(text) | Fault::Invalid(text) => Error::Other(text),
        Fault::Busy | Fault::Unavailable => Error::Other("the store cannot be reached at present".to_owned()),
        Fault::Timeout => Error::Other("the store did not answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bindings::shims::keyvalue::store::{Host as _, HostBucket as _};
    use crate::bindings::shims::logging::{Host as _, Level};
    use crate::capability::grant::Grant;
    use crate::capability::tape::{Tape, Taped, Tapes};
    use crate::capability::{Guest, cache, config, logging, testing};

    fn view<'a>(tape: &'a Tape, inner: cache::View<'a>, table: &'a mut Table) -> KeyValueView<'a> {
        KeyValueView { cache: Taped { tape, inner }, table }
    }

    async fn with_bucket<F>(guest: &Guest, room: &cache::CacheRoom, check: F)
    where
        F: AsyncFnOnce(&mut KeyValueView<'_>, &dyn Fn() -> Resource<Bucket>),
    {
        let mut table = Table::new();
        let tape = Tapes::Off.tape();
        let mut view = self::view(&tape, cache::View { guest, room }, &mut table);
        let bucket = view.open("default".into()).await.unwrap().unwrap();
        let number = bucket.rep();
        check(&mut view, &|| Resource::new_borrow(number)).await;
        view.drop(bucket).await.unwrap();
        assert!(table.is_empty());
    }

    #[tokio::test]
    async fn a_bucket_is_the_plugins_own_part_of_the_cache() {
        let room = cache::CacheRoom::open("memory:").unwrap();
        let guest = testing::guest("planning", Some("org-1"));
        with_bucket(&guest, &room, async |view, bucket| {
            view.set(bucket(), "k".into(), b"v".to_vec()).await.unwrap().unwrap();
            assert!(view.exists(bucket(), "k".into()).await.unwrap().unwrap());
            assert_eq!(view.cache.inner.read("k").await.unwrap(), Some(b"v".to_vec()));
            assert_eq!(atomics::Host::increment(view, bucket(), "n".into(), 2).await.unwrap().unwrap(), 2);
            assert!(atomics::Host::increment(view, bucket(), "n".into(), u64::MAX).await.unwrap().is_err());
            let many = batch::Host::get_many(view, bucket(), vec!["none".into(), "k".into()]).await.unwrap().unwrap();
            assert_eq!(many, [None, Some(("k".into(), b"v".to_vec()))]);
            batch::Host::delete_many(view, bucket(), vec!["k".into()]).await.unwrap().unwrap();
            assert_eq!(view.get(bucket(), "k".into()).await.unwrap().unwrap(), None);
            assert!(matches!(view.list_keys(bucket(), None).await.unwrap(), Err(Error::Other(_))));
        })
        .await;
        let other = testing::guest("planning", Some("org-2"));
        with_bucket(&other, &room, async |view, bucket| {
            assert_eq!(view.get(bucket(), "n".into()).await.unwrap().unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn no_other_bucket_can_be_opened_and_none_without_the_grant() {
        let room = cache::CacheRoom::open("memory:").unwrap();
        let mut table = Table::new();
        let guest = testing::guest("planning", None);
        let tape = Tapes::Off.tape();
        let mut view = self::view(&tape, cache::View { guest: &guest, room: &room }, &mut table);
        assert!(matches!(view.open("users".into()).await.unwrap(), Err(Error::NoSuchStore)));
        let bare = testing::guest_with("planning", None, Grant::default());
        let mut view = self::view(&tape, cache::View { guest: &bare, room: &room }, &mut table);
        assert!(matches!(view.open("default".into()).await.unwrap(), Err(Error::AccessDenied)));
    }

    #[tokio::test]
    async fn settings_and_lines_go_through_their_rooms() {
        use crate::bindings::shims::config::Host as _;
        let mut guest = testing::guest("planning", None);
        Arc::make_mut(&mut guest.plugin).config.insert("a".into(), "1".into());
        let mut view = ConfigView(config::View { guest: &guest });
        assert_eq!(view.get("a".into()).await.unwrap().unwrap().as_deref(), Some("1"));
        assert_eq!(view.get_all().await.unwrap().unwrap(), [("a".to_owned(), "1".to_owned())]);
        let room = logging::LogRoom::default();
        let mut view = LoggingView(logging::View { guest: &guest, room: &room });
        view.log(Level::Critical, "part".into(), "broken".into()).await.unwrap();
        let line = &room.follow("planning", None).kept[0];
        assert_eq!((line.level, line.message.as_str()), (logging::Level::Error, "broken"));
        assert_eq!(line.fields, [("context".to_owned(), "part".to_owned())]);
    }
}
