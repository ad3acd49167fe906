//! `restart`: how long a host takes from its start to `/ready` when everything has been compiled before.

use std::time::Instant;

use anyhow::Result;
use berth_tests::{Host, Manifest};

const ROUNDS: usize = 5;

pub(crate) async fn measure() -> Result<()> {
    let mut host = Host::with(Manifest::services()).start().await;
    let mut milliseconds = Vec::new();
    for _ in 0..ROUNDS {
        let stopped = host.stop().await;
        let began = Instant::now();
        host = stopped.start().await;
        milliseconds.push(began.elapsed().as_millis());
    }
    milliseconds.sort_unstable();
    println!("from start to ready, all components in the compile cache: {milliseconds:?} ms (wanted: under 1000)");
    Ok(())
}
