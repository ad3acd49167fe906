//! Closes a connection whose client has stopped reading: otherwise it would hold its answer, and the guest behind it,
//! for ever.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::watchdog::Activity;
use crate::gateway::problem;

/// A stream whose writes may stall only for so long. A write that goes through at once costs nothing.
pub(super) struct StallGuard<S> {
    inner: S,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_stalled: bool,
    activity: Arc<Activity>,
}

impl<S> StallGuard<S> {
    pub(super) fn new(inner: S, timeout: Duration, activity: Arc<Activity>) -> Self {
        Self { inner, timeout, timer: None, is_stalled: false, activity }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.activity.write();
            if self.is_stalled {
                self.is_stalled = false;
                self.activity.stall(false);
            }
            return written;
        }
        let deadline = Instant::now() + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.is_stalled {
            self.is_stalled = true;
            self.activity.stall(true);
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> StallGuard<S> {
    /// Tells a client whose head does not come to its end why it is let go. Nothing was written since the last answer, so
    /// there is room for it; a client for whom there is none is not waited for.
    fn say_why(&mut self, context: &mut Context<'_>) {
        let mut left = problem::late_head();
        while !left.is_empty() {
            match Pin::new(&mut self.inner).poll_write(context, &left) {
                Poll::Ready(Ok(count @ 1..)) => left = left.split_off(count.min(left.len())),
                _ => return,
            }
        }
        let _ = Pin::new(&mut self.inner).poll_shutdown(context);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.is_over() {
            this.say_why(context);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head did not arrive in time")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.activity.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.judge(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(context) {
            Poll::Pending => this.judge(context, Poll::Pending),
            flushed => flushed,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.inner).poll_shutdown(context);
        this.judge(context, closed)
    }
}
