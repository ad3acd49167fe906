//! A guest's standard output and error: lines of its log, never the host's own output.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Bytes kept between two calls; what is over is dropped.
const BYTES_MAX: usize = 8 * 1024;

/// What the guest wrote since the last [`GuestOutput::take`].
#[derive(Clone, Default)]
pub(crate) struct GuestOutput(Arc<Written>);

#[derive(Default)]
struct Written {
    /// Most calls write nothing, and every one is asked.
    is_any: AtomicBool,
    bytes: Mutex<Vec<u8>>,
}

impl GuestOutput {
    /// Takes what was written, if anything.
    pub(crate) fn take(&self) -> Option<String> {
        if !self.0.is_any.load(Ordering::Acquire) {
            return None;
        }
        self.0.is_any.store(false, Ordering::Release);
        let mut bytes = self.0.bytes.lock();
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        Some(text)
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl tokio::io::AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, written: &[u8]) -> Poll<std::io::Result<usize>> {
        let mut bytes = self.0.bytes.lock();
        let room = BYTES_MAX.saturating_sub(bytes.len());
        bytes.extend(written.iter().take(room));
        self.0.is_any.store(!bytes.is_empty(), Ordering::Release);
        Poll::Ready(Ok(written.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
