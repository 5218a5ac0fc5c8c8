//! Wrappers that make a storage slow, chopped, failing or counted.
//!
//! They show how a loader behaves when its storage misbehaves, here and in tests of other storages.
//! Each forwards what the inner storage is ([`is_unchanged`](Storage::is_unchanged),
//! [`release`](Storage::release)) and hides the ways around its reads
//! ([`as_slice`](Storage::as_slice), [`as_local`](Storage::as_local)): every byte comes through
//! [`read_at`](Storage::read_at).

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{ReaderKind, Storage};

/// Every read takes a fixed time and then as long as the bytes need at a given rate.
///
/// Reads do not wait for each other, so several in flight hide the latency, as with real storage;
/// the rate is that of one read, unless it is [shared](Slow::shared).
#[derive(Debug)]
pub struct Slow<S> {
    inner: S,
    latency: Duration,
    bytes_per_second: u64,
    /// When the shared line is free again, if reads share one.
    line: Option<Mutex<Instant>>,
}

impl<S: Storage> Slow<S> {
    /// Delays each read of `inner` by `latency` and by its length over `bytes_per_second`.
    pub fn new(inner: S, latency: Duration, bytes_per_second: u64) -> Self {
        Self {
            inner,
            latency,
            bytes_per_second: bytes_per_second.max(1),
            line: None,
        }
    }

    /// Makes all reads share the rate, one after another.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.line = Some(Mutex::new(Instant::now()));
        self
    }

    fn transfer(&self, bytes: usize) {
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let now = Instant::now();
        let end = match &self.line {
            Some(line) => {
                let mut free = line.lock().unwrap_or_else(PoisonError::into_inner);
                *free = now.max(*free) + time;
                *free
            }
            None => now + time,
        };
        std::thread::sleep(self.latency + (end - now));
    }
}

/// No read returns more than a few bytes.
#[derive(Debug)]
pub struct Chopped<S> {
    inner: S,
    most: usize,
}

impl<S: Storage> Chopped<S> {
    /// Cuts each read of `inner` to `most` bytes, at least one.
    pub fn new(inner: S, most: usize) -> Self {
        Self {
            inner,
            most: most.max(1),
        }
    }
}

/// Reads that touch a certain byte fail.
pub struct Failing<S> {
    inner: S,
    at: u64,
    error: Box<dyn Fn() -> io::Error + Send + Sync>,
}

impl<S: Storage> Failing<S> {
    /// Fails each read of `inner` that would return the byte at offset `at`.
    pub fn new(inner: S, at: u64, error: impl Fn() -> io::Error + Send + Sync + 'static) -> Self {
        Self {
            inner,
            at,
            error: Box::new(error),
        }
    }
}

/// Counts reads and bytes.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl<S: Storage> Counted<S> {
    /// Counts what is read of `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// How many bytes they returned.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl<S: Storage> Storage for Slow<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read_at(offset, buf)?;
        self.transfer(read);
        Ok(read)
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Other("slow")
    }

    fn release(&self) {
        self.inner.release();
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        self.inner.is_unchanged()
    }
}

impl<S: Storage> Storage for Chopped<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.most);
        self.inner.read_at(offset, &mut buf[..len])
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Other("chopped")
    }

    fn release(&self) {
        self.inner.release();
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        self.inner.is_unchanged()
    }
}

impl<S: Storage> Storage for Failing<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match (offset..offset.saturating_add(buf.len() as u64)).contains(&self.at) {
            true => Err((self.error)()),
            false => self.inner.read_at(offset, buf),
        }
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Other("failing")
    }

    fn release(&self) {
        self.inner.release();
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        self.inner.is_unchanged()
    }
}

impl<S: Storage> Storage for Counted<S> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read_at(offset, buf)?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn reader(&self) -> ReaderKind {
        ReaderKind::Other("counted")
    }

    fn release(&self) {
        self.inner.release();
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        self.inner.is_unchanged()
    }
}

impl<S: fmt::Debug> fmt::Debug for Failing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failing")
            .field("inner", &self.inner)
            .field("at", &self.at)
            .finish()
    }
}
