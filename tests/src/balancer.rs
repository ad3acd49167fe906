//! A small load balancer: passes connections on, in turn, to the hosts that say they are ready.
//!
//! It works on connections and not on requests, as simple as one can be: what a client has sent on a connection whose host
//! dies is the client's loss.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How often each host is asked.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long a host may take to say so.
const PROBE_PATIENCE: Duration = Duration::from_millis(1_000);
/// How long a connection waits for a host.
const CONNECT_ATTEMPTS: u32 = 200;
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// A host without its broker or cache still answers.
const PROBE: &[u8] = b"GET /ready?need=database HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n";

/// The balancer; ends with the test.
pub struct Balancer {
    address: String,
    hosts: Arc<Mutex<Vec<Target>>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Target {
    address: String,
    is_ready: bool,
}

impl Balancer {
    /// Over hosts that are ready now, by address and port.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn over(addresses: impl IntoIterator<Item = &str>) -> Self {
        let hosts: Vec<Target> =
            addresses.into_iter().map(|address| Target { address: address.to_owned(), is_ready: true }).collect();
        let hosts = Arc::new(Mutex::new(hosts));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let tasks = vec![tokio::spawn(pass(listener, Arc::clone(&hosts))), tokio::spawn(probe(Arc::clone(&hosts)))];
        Self { address, hosts, tasks }
    }

    /// As a host's base: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A host was started again elsewhere; it gets connections when it says that it is ready.
    pub fn replace(&self, old: &str, new: &str) {
        let mut hosts = lock(&self.hosts);
        for host in hosts.iter_mut().filter(|host| host.address == old) {
            *host = Target { address: new.to_owned(), is_ready: false };
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(hosts: &Mutex<Vec<Target>>) -> std::sync::MutexGuard<'_, Vec<Target>> {
    hosts.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass(listener: TcpListener, hosts: Arc<Mutex<Vec<Target>>>) {
    let turn = Arc::new(AtomicUsize::new(0));
    while let Ok((mut client, _)) = listener.accept().await {
        let (hosts, turn) = (Arc::clone(&hosts), Arc::clone(&turn));
        tokio::spawn(async move {
            for _ in 0..CONNECT_ATTEMPTS {
                let ready: Vec<String> =
                    lock(&hosts).iter().filter(|host| host.is_ready).map(|host| host.address.clone()).collect();
                let next = turn.fetch_add(1, Ordering::Relaxed);
                if let Some(address) = ready.get(next.checked_rem(ready.len()).unwrap_or(0))
                    && let Ok(mut host) = TcpStream::connect(address).await
                {
                    let _ = copy_bidirectional(&mut client, &mut host).await;
                    return;
                }
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        });
    }
}

async fn probe(hosts: Arc<Mutex<Vec<Target>>>) {
    loop {
        let addresses: Vec<String> = lock(&hosts).iter().map(|host| host.address.clone()).collect();
        for address in addresses {
            let is_ready = tokio::time::timeout(PROBE_PATIENCE, is_ready(&address)).await.unwrap_or(false);
            for host in lock(&hosts).iter_mut().filter(|host| host.address == address) {
                host.is_ready = is_ready;
            }
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn is_ready(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let mut status = [0; 12];
    stream.write_all(PROBE).await.is_ok() && stream.read_exact(&mut status).await.is_ok() && status.ends_with(b" 200")
}
