//! The deployer over the real engine and a real component. They need `target/plugins/hello.wasm` (`cargo xtask build hello`),
//! so they run only when asked for: `cargo test -p berth -- --ignored real_`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{DeployOptions, Deployer, DeployerOptions};
use crate::capability::grant::{Grant, Isolation, Limits};
use crate::capability::queue::{QueueOptions, QueueRoom};
use crate::capability::{Plugin, Rooms, acting, cache, http_out, logging, mail, secrets};
use crate::database::{Database, DatabaseOptions, HOST_MIGRATIONS};
use crate::deploy::{DeployError, Prefix, PublicRoute, Registry, SlotOptions, SlotState};
use crate::engine::{Answer, Compiler, Engine, EngineOptions, PackedAnswer, PackedRequest, Packer};
use crate::principal::{Call, Principal};

const NEEDS_GUEST: &str = "run `cargo xtask build hello` first";

fn hello() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins/hello.wasm");
    std::fs::read(path).expect(NEEDS_GUEST)
}

/// The same component with another digest: a custom section at its end.
fn variant(number: u32) -> Bytes {
    let mut bytes = hello();
    let mut section = vec![4];
    section.extend(b"mark");
    section.extend(number.to_le_bytes());
    bytes.push(0);
    bytes.push(u8::try_from(section.len()).unwrap());
    bytes.extend(section);
    bytes.into()
}

async fn deployer(folder: &Path) -> Deployer {
    let url = format!("sqlite:{}", folder.join("berth.db").display());
    let database = Database::open(&url, DatabaseOptions::default()).await.unwrap();
    database.migrate("host", HOST_MIGRATIONS).await.unwrap();
    let queue = QueueRoom::open(database.clone(), QueueOptions::default()).await.unwrap();
    let key = secrets::MasterKey::load_or_create(&folder.join("master.key")).unwrap();
    let rooms = Arc::new(Rooms {
        cache: cache::CacheRoom::open("memory:").unwrap(),
        database: crate::capability::database::DatabaseRoom::new(database.clone(), Arc::new(queue.clone())),
        queue: queue.clone(),
        secrets: secrets::Vault::open_with(database.clone(), key).await.unwrap(),
        logging: logging::LogRoom::default(),
        mail: mail::MailRoom::unconfigured(),
        acting: acting::ActingRoom::default(),
        http_out: Arc::new(http_out::Egress::default()),
        tapes: crate::capability::tape::Tapes::default(),
    });
    let options =
        EngineOptions { compiled: folder.join("compiled"), cache_key: [7; 32], compiler: Compiler::InProcess };
    let engine = Engine::new(options, rooms).unwrap();
    let plugin = SlotOptions {
        plugin: Arc::new(Plugin {
            name: "hello".into(),
            grant: Grant::default(),
            limits: Limits { drain: Duration::from_secs(5), ..Limits::default() },
            config: BTreeMap::new(),
        }),
        origin: Default::default(),
        component: None,
        prefixes: vec![Prefix::parse("/api/hello").unwrap()],
        public: ["/api/hello", "/api/hello/echo", "/api/hello/stream"]
            .map(|path| PublicRoute::new(None, path).unwrap())
            .to_vec(),
        port: None,
        isolation: Isolation::Plugin,
        timers: BTreeMap::new(),
        rate_limits: Vec::new(),
    };
    let registry = Arc::new(Registry::new(vec![plugin]).unwrap());
    Deployer::new(engine, registry, database, queue, DeployerOptions::new(folder.join("artifacts")), Vec::new())
}

fn call() -> Call {
    Call {
        principal: Arc::new(Principal::system(Some("organization".into()), None)),
        request_id: "request".into(),
        source_service: None,
        causation_id: None,
        correlation_id: None,
        depth: 0,
        deadline: None,
        is_shadow: false,
        trace: crate::trace::Trace::default(),
    }
}

fn request() -> PackedRequest {
    Packer::new("GET", "/api/hello", None, "request", 0).finish(Bytes::new())
}

async fn say_hello(deployer: &Deployer) -> Result<i64, String> {
    let revision = deployer.registry().route("/api/hello").and_then(|slot| slot.current()).ok_or("no build")?;
    let number = revision.number;
    match revision.handle(call(), request()).await {
        Ok(Answer::Packed(packed)) => match PackedAnswer::read(packed).map(|answer| answer.status) {
            Some(200) => Ok(number),
            status => Err(format!("status {status:?}")),
        },
        Ok(Answer::Record(_)) => Err("the packed handler was not called".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn by(waits_for_drain: bool) -> DeployOptions {
    DeployOptions { waits_for_drain, ..DeployOptions::by("operator") }
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs target/plugins/hello.wasm"]
async fn real_swaps_under_load_fail_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let deployer = deployer(folder.path()).await;
    let variants: Vec<Bytes> = (0..3).map(variant).collect();
    deployer.deploy("hello", variants[0].clone(), by(true)).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let (deployer, is_over, answered) = (deployer.clone(), Arc::clone(&is_over), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let number = say_hello(&deployer).await.unwrap();
                    assert!(number >= last, "an older build answered a later request");
                    last = number;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut flips_us = Vec::new();
    for swap in 1..=200 {
        let report = deployer.deploy("hello", variants[swap % 3].clone(), by(false)).await.unwrap();
        flips_us.push(report.flip_us.unwrap());
        let seen = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < seen + 32 {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    println!(
        "{} requests over 200 swaps, longest flip {} us",
        answered.load(Ordering::Relaxed),
        flips_us.iter().max().unwrap()
    );
    assert!(flips_us.iter().all(|flip_us| *flip_us < 5_000), "{flips_us:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs target/plugins/hello.wasm"]
async fn real_swaps_return_their_memory() {
    let folder = tempfile::tempdir().unwrap();
    let deployer = deployer(folder.path()).await;
    let variants: Vec<Bytes> = (0..3).map(variant).collect();
    let mut before = 0;
    for swap in 0..1_100 {
        deployer.deploy("hello", variants[swap % 3].clone(), by(true)).await.unwrap();
        say_hello(&deployer).await.unwrap();
        if swap == 100 {
            before = resident_bytes();
        }
    }
    let after = resident_bytes();
    println!("resident {} MiB after 100 swaps, {} MiB after 1,000 more", before >> 20, after >> 20);
    assert!(after < before + before / 10, "resident memory grew from {before} to {after} bytes");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs target/plugins/hello.wasm"]
async fn real_restart_and_rollback_need_no_compile() {
    let folder = tempfile::tempdir().unwrap();
    let first = deployer(folder.path()).await;
    first.deploy("hello", variant(1), by(true)).await.unwrap();
    first.deploy("hello", variant(2), by(true)).await.unwrap();
    let began = Instant::now();
    let report = first.rollback("hello", None, by(true)).await.unwrap();
    println!("rollback in {:?}: {report:?}", began.elapsed());
    assert_eq!(say_hello(&first).await, Ok(1));
    first.stop(Duration::from_secs(5)).await;
    drop(first);

    let second = deployer(folder.path()).await;
    let began = Instant::now();
    second.start().await.unwrap();
    println!("start in {:?}", began.elapsed());
    assert_eq!(second.plugins()[0].state, SlotState::Loaded);
    assert_eq!(say_hello(&second).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs target/plugins/hello.wasm"]
async fn real_garbage_is_refused_and_the_old_build_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let deployer = deployer(folder.path()).await;
    deployer.deploy("hello", variant(1), by(true)).await.unwrap();
    let whole = hello();
    let module = b"\0asm\x01\0\0\0".to_vec();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0xff);
    for bytes in [b"garbage".to_vec(), Vec::new(), module, whole[..whole.len() / 2].to_vec(), flipped] {
        let error = deployer.deploy("hello", bytes.into(), by(true)).await.unwrap_err();
        println!("{error}");
        assert!(matches!(error, DeployError::Invalid(_)), "{error:?}");
        assert_eq!(say_hello(&deployer).await, Ok(1));
    }
}
