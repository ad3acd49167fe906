//! What every cache must do, run over each backend; and what the room adds to all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backend::{CacheBackend, CacheError};
use super::*;
use crate::bindings::imports::cache;
use crate::bindings::imports::types::Fault;
use crate::capability::grant::Grant;
use crate::capability::testing;

const TTL: Duration = Duration::from_secs(60);

/// Every backend that can be had: the in-process one always, Redis where `BERTH_TEST_REDIS_URL` names one.
fn backends() -> Vec<Arc<dyn CacheBackend>> {
    let mut backends: Vec<Arc<dyn CacheBackend>> = vec![Arc::new(MemoryCache::new(MEMORY_BYTES_MAX))];
    if let Ok(url) = std::env::var("BERTH_TEST_REDIS_URL") {
        let prefix = format!("berth-test:{}:", uuid::Uuid::now_v7());
        backends.push(Arc::new(RedisCache::with_prefix(&url, &prefix).unwrap()));
    }
    backends
}

/// Waits until a key is gone, and fails after ten seconds.
async fn wait_until_gone(backend: &dyn CacheBackend, key: &str) {
    let started = Instant::now();
    while backend.get(key).await.unwrap().is_some() {
        assert!(started.elapsed() < Duration::from_secs(10), "{key} never expired");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_value_is_read_back_until_it_is_deleted() {
    for cache in backends() {
        let value = Bytes::from_static(b"\x00\xff\r\n$5");
        assert_eq!(cache.get("a").await.unwrap(), None, "{}", cache.kind());
        cache.set("a", value.clone(), TTL).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(value), "{}", cache.kind());
        cache.set("a", Bytes::new(), TTL).await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), Some(Bytes::new()), "an empty value is a value");
        cache.delete("a").await.unwrap();
        cache.delete("a").await.unwrap();
        assert_eq!(cache.get("a").await.unwrap(), None, "{}", cache.kind());
        cache.ping().await.unwrap();
    }
}

#[tokio::test]
async fn many_values_come_in_the_order_of_the_keys() {
    for cache in backends() {
        cache.set("one", Bytes::from_static(b"1"), TTL).await.unwrap();
        cache.set("two", Bytes::from_static(b"2"), TTL).await.unwrap();
        let keys = ["two", "none", "one", "two"].map(String::from);
        let values = cache.get_many(&keys).await.unwrap();
        let texts: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_deref()).collect();
        assert_eq!(texts, [Some(&b"2"[..]), None, Some(b"1"), Some(b"2")], "{}", cache.kind());
        assert!(cache.get_many(&[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_value_expires_and_its_time_can_be_changed() {
    for cache in backends() {
        cache.set("short", Bytes::from_static(b"x"), Duration::from_millis(20)).await.unwrap();
        wait_until_gone(&*cache, "short").await;
        assert!(!cache.expire("short", TTL).await.unwrap(), "{}", cache.kind());
        cache.set("long", Bytes::from_static(b"x"), TTL).await.unwrap();
        assert!(cache.expire("long", Duration::from_millis(20)).await.unwrap());
        wait_until_gone(&*cache, "long").await;
    }
}

#[tokio::test]
async fn add_if_absent_is_won_by_exactly_one() {
    for cache in backends() {
        let racers = (0..50u8).map(|racer| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.add_if_absent("lock", Bytes::from(vec![racer]), TTL).await.unwrap() })
        });
        let mut won = 0;
        for racer in racers.collect::<Vec<_>>() {
            won += u32::from(racer.await.unwrap());
        }
        assert_eq!(won, 1, "{}", cache.kind());
        cache.add_if_absent("brief", Bytes::from_static(b"1"), Duration::from_millis(20)).await.unwrap();
        wait_until_gone(&*cache, "brief").await;
        assert!(cache.add_if_absent("brief", Bytes::from_static(b"2"), TTL).await.unwrap(), "{}", cache.kind());
    }
}

#[tokio::test]
async fn an_increment_is_atomic_and_exact() {
    for cache in backends() {
        let adders = (0..40).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    cache.increment("count", 1, TTL).await.unwrap();
                }
            })
        });
        for adder in adders.collect::<Vec<_>>() {
            adder.await.unwrap();
        }
        assert_eq!(cache.increment("count", -1, TTL).await.unwrap(), 999, "{}", cache.kind());
        assert_eq!(cache.get("count").await.unwrap(), Some(Bytes::from_static(b"999")), "{}", cache.kind());
        let large = (1 << 53) + 1;
        assert_eq!(cache.increment("large", large, TTL).await.unwrap(), large, "{}", cache.kind());
        cache.set("text", Bytes::from_static(b"41"), TTL).await.unwrap();
        assert_eq!(cache.increment("text", 1, TTL).await.unwrap(), 42, "{}", cache.kind());
    }
}

#[tokio::test]
async fn an_increment_that_makes_no_sense_is_refused_and_changes_nothing() {
    for cache in backends() {
        cache.set("word", Bytes::from_static(b"word"), TTL).await.unwrap();
        assert!(matches!(cache.increment("word", 1, TTL).await, Err(CacheError::Invalid(_))), "{}", cache.kind());
        assert_eq!(cache.get("word").await.unwrap(), Some(Bytes::from_static(b"word")));
        cache.increment("full", i64::MAX, TTL).await.unwrap();
        assert!(matches!(cache.increment("full", 1, TTL).await, Err(CacheError::Invalid(_))), "{}", cache.kind());
        assert_eq!(cache.increment("full", -1, TTL).await.unwrap(), i64::MAX - 1, "{}", cache.kind());
    }
}

#[tokio::test]
async fn an_increment_leaves_the_time_to_live_of_a_counter_alone() {
    for cache in backends() {
        cache.increment("window", 1, Duration::from_millis(60)).await.unwrap();
        cache.increment("window", 1, Duration::from_secs(3600)).await.unwrap();
        wait_until_gone(&*cache, "window").await;
        assert_eq!(cache.increment("window", 1, TTL).await.unwrap(), 1, "{}", cache.kind());
    }
}

#[tokio::test]
async fn no_plugin_or_organization_reads_another_namespace() {
    for backend in backends() {
        let room = CacheRoom::new(backend);
        let guests = [
            testing::guest("planning", Some("org-1")),
            testing::guest("planning", Some("org-2")),
            testing::guest("planning", None),
            testing::guest("ai-service", Some("org-1")),
        ];
        for (number, guest) in guests.iter().enumerate() {
            let view = View { guest, room: &room };
            assert_eq!(view.read("k").await.unwrap(), None);
            view.write("k", vec![u8::try_from(number).unwrap()], 60_000).await.unwrap();
        }
        room.host_set("k", Bytes::from_static(b"host"), TTL).await;
        for (number, guest) in guests.iter().enumerate() {
            let view = View { guest, room: &room };
            assert_eq!(view.read("k").await.unwrap(), Some(vec![u8::try_from(number).unwrap()]));
        }
        let view = View { guest: &guests[2], room: &room };
        for escape in ["../h:k", "org-1:k", ":k"] {
            assert_eq!(view.read(escape).await.unwrap(), None, "{escape}");
        }
        assert_eq!(room.host_get("k").await.as_deref(), Some(&b"host"[..]));
        room.delete(&host_key("k")).await;
        assert_eq!(room.host_get("k").await, None);
    }
}

#[tokio::test]
async fn a_copy_of_a_request_reads_and_changes_nothing() {
    for backend in backends() {
        let room = CacheRoom::new(backend);
        let guest = testing::guest("planning", Some("org-1"));
        let copy = testing::shadow(testing::guest("planning", Some("org-1")));
        let (view, mut copy) = (View { guest: &guest, room: &room }, View { guest: &copy, room: &room });
        view.write("k", b"old".to_vec(), 60_000).await.unwrap();
        view.count("n", 5, 60_000).await.unwrap();

        // It is answered as if it had happened.
        copy.write("k", b"new".to_vec(), 60_000).await.unwrap();
        copy.write("fresh", b"new".to_vec(), 60_000).await.unwrap();
        copy.remove("k").await.unwrap();
        assert_eq!(copy.count("n", 2, 60_000).await.unwrap(), 7);
        assert_eq!(copy.count("fresh counter", 2, 60_000).await.unwrap(), 2);
        let mut add = async |key: &str| {
            cache::Host::add_if_absent(&mut copy, key.to_owned(), b"new".to_vec(), 60_000).await.unwrap().unwrap()
        };
        assert_eq!((add("k").await, add("absent").await), (false, true));
        assert!(cache::Host::expire(&mut copy, "k".to_owned(), 1).await.unwrap().unwrap());
        assert!(!cache::Host::expire(&mut copy, "absent".to_owned(), 1).await.unwrap().unwrap());

        // The shortest time to live is over by then, and what it may have left is gone.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(copy.read("k").await.unwrap(), Some(b"old".to_vec()));
        assert_eq!(view.count("n", 1, 60_000).await.unwrap(), 6);
        for key in ["fresh", "absent", "fresh counter"] {
            assert_eq!(view.read(key).await.unwrap(), None, "{key}");
        }
    }
}

#[tokio::test]
async fn limits_are_named_and_the_grant_is_checked() {
    let room = CacheRoom::open("memory:").unwrap();
    let guest = testing::guest("planning", Some("org-1"));
    let view = View { guest: &guest, room: &room };
    assert!(matches!(view.read("").await, Err(Fault::Invalid(_))));
    assert!(matches!(view.read(&"k".repeat(513)).await, Err(Fault::TooLarge(_))));
    assert!(view.read(&"k".repeat(512)).await.is_ok());
    assert!(matches!(view.write("k", vec![0; VALUE_BYTES_MAX + 1], 1).await, Err(Fault::TooLarge(_))));
    assert!(matches!(view.write("k", vec![], 0).await, Err(Fault::Invalid(_))));
    assert!(matches!(view.count("k", 1, 30 * 24 * 3600 * 1000 + 1).await, Err(Fault::Invalid(_))));
    assert!(matches!(view.read_many(&vec!["k".to_owned(); 501]).await, Err(Fault::TooLarge(_))));
    let bare = testing::guest_with("planning", None, Grant::default());
    let view = View { guest: &bare, room: &room };
    assert!(matches!(view.read("k").await, Err(Fault::Denied(_))));
}

/// Has a value of the largest size under every key, and counts how many it was asked for.
#[derive(Default)]
struct Large(AtomicUsize);

#[async_trait::async_trait]
impl CacheBackend for Large {
    fn kind(&self) -> &'static str {
        "large"
    }

    async fn ping(&self) -> Result<(), CacheError> {
        Ok(())
    }

    async fn get(&self, _: &str) -> Result<Option<Bytes>, CacheError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Bytes::from(vec![0; VALUE_BYTES_MAX])))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, CacheError> {
        let mut values = Vec::new();
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    async fn set(&self, _: &str, _: Bytes, _: Duration) -> Result<(), CacheError> {
        Ok(())
    }

    async fn delete(&self, _: &str) -> Result<(), CacheError> {
        Ok(())
    }

    async fn increment(&self, _: &str, delta: i64, _: Duration) -> Result<i64, CacheError> {
        Ok(delta)
    }

    async fn add_if_absent(&self, _: &str, _: Bytes, _: Duration) -> Result<bool, CacheError> {
        Ok(false)
    }

    async fn expire(&self, _: &str, _: Duration) -> Result<bool, CacheError> {
        Ok(true)
    }
}

#[tokio::test]
async fn values_beyond_what_may_be_answered_are_not_fetched() {
    let backend = Arc::new(Large::default());
    let room = CacheRoom::new(Arc::clone(&backend) as Arc<dyn CacheBackend>);
    let guest = testing::guest("planning", Some("org-1"));
    let view = View { guest: &guest, room: &room };
    let answer = view.read_many(&vec!["k".to_owned(); KEYS_MAX]).await;
    assert!(matches!(answer, Err(Fault::TooLarge(_))));
    assert_eq!(backend.0.load(Ordering::Relaxed), KEYS_AT_ONCE);
}

#[tokio::test]
async fn a_lost_cache_reads_as_empty_and_counters_say_so() {
    // Nothing listens on this port once the listener is gone.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let room = CacheRoom::open(&url).unwrap();
    let guest = testing::guest("planning", Some("org-1"));
    let view = View { guest: &guest, room: &room };
    view.write("k", vec![1], 1000).await.unwrap();
    assert_eq!(view.read("k").await.unwrap(), None);
    assert_eq!(view.read_many(&["a".into(), "b".into()]).await.unwrap(), [None, None]);
    view.remove("k").await.unwrap();
    assert!(matches!(view.count("k", 1, 1000).await, Err(Fault::Unavailable)));
    assert!(matches!(room.host_increment("k", 1, TTL).await, Err(CacheError::Unavailable(_))));
    let added = room.add_if_absent(&host_key("k"), Bytes::new(), TTL).await;
    assert!(matches!(added, Err(CacheError::Unavailable(_))));
    assert_eq!(room.host_get("k").await, None);
    assert!(room.ping().await.is_err());
}

#[tokio::test]
async fn a_cache_that_comes_back_is_used_again() {
    let Ok(url) = std::env::var("BERTH_TEST_REDIS_URL") else { return };
    // Host and port alone: the number of the database stays behind.
    let server = url.trim_start_matches("redis://").split('/').next().unwrap().to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let prefix = format!("berth-test:{}:", uuid::Uuid::now_v7());
    let backend = RedisCache::with_prefix(&format!("redis://{address}"), &prefix).unwrap();
    let room = CacheRoom::new(Arc::new(backend));
    assert!(room.host_increment("n", 1, TTL).await.is_err());
    let proxy = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let started = Instant::now();
    while room.host_increment("n", 1, TTL).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    room.host_set("k", Bytes::from_static(b"v"), TTL).await;
    assert_eq!(room.host_get("k").await.as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_lost_cache() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let room = CacheRoom::open(&format!("rediss://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    assert!(matches!(room.host_increment("k", 1, TTL).await, Err(CacheError::Unavailable(_))));
}

#[test]
fn a_malformed_address_is_refused_at_once() {
    for url in ["memory", "http://localhost", "redis//x", ""] {
        assert!(matches!(CacheRoom::open(url), Err(CacheError::Invalid(_))), "{url}");
    }
}
