//! Streams: one thread each, which runs what was enqueued, late if told so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::state::{State, state};

/// Every stream whose thread may still run, destroyed ones too.
static ALL: Mutex<Vec<Weak<Stream>>> = Mutex::new(Vec::new());

/// Waits until no stream has anything to do, but not for ever: one may wait for an event that
/// nobody reaches.
pub(crate) fn wait_for_all() {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|stream| stream.strong_count() > 0);
    let alive: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
    drop(all);
    let begun = Instant::now();
    while alive.iter().any(|stream| !stream.is_idle()) && begun.elapsed().as_secs() < 5 {
        thread::sleep(Duration::from_micros(50));
    }
}

pub(crate) struct Stream {
    pub(crate) device: usize,
    /// The context it belongs to.
    context: usize,
    /// Tells streams apart, the default ones too.
    pub(crate) number: u64,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    busy: bool,
    closing: bool,
}

/// What a stream can do.
pub(crate) enum Work {
    /// Copies host bytes to the device.
    Upload { to: u64, from: HostBytes },
    /// Copies device bytes to host memory at an address.
    Download { to: usize, from: u64, len: usize },
    /// Copies within the device.
    Move { to: u64, from: u64, len: usize },
    /// Fills with one byte.
    Fill { to: u64, byte: u8, len: usize },
    /// The stream has come to an allocation.
    Ready(u64),
    /// The stream has come to a release.
    Free(u64),
    /// The stream has come to a record of an event.
    Reach(Arc<Event>, u64),
    /// Nothing goes on before this.
    Await(Arc<Event>, u64),
}

/// Where an upload reads from.
pub(crate) enum HostBytes {
    /// Memory that must stay pinned and unchanged until the copy has run.
    Pinned { start: usize, len: usize },
    /// A copy made when the work was enqueued, as the driver does of pageable memory.
    Taken(Vec<u8>),
}

impl Stream {
    pub(crate) fn start(device: usize, context: usize) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let stream = Arc::new(Self {
            device,
            context,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&stream);
        ALL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(weak);
        let runs = Arc::clone(&stream);
        thread::spawn(move || runs.run());
        stream
    }

    pub(crate) fn enqueue(&self, work: Work) {
        self.lock().waiting.push_back(work);
        self.changed.notify_all();
    }

    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.waiting.is_empty() && !queue.busy
    }

    /// Waits until all that was enqueued has run. Never to be called with the state locked.
    pub(crate) fn wait(&self) {
        let mut queue = self.lock();
        while queue.busy || !queue.waiting.is_empty() {
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the thread end once it has run what is enqueued.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut queue = self.lock();
        loop {
            match queue.waiting.pop_front() {
                Some(work) => {
                    queue.busy = true;
                    drop(queue);
                    self.perform(work);
                    queue = self.lock();
                    queue.busy = false;
                    self.changed.notify_all();
                }
                None if queue.closing => return,
                None => {
                    queue = self
                        .changed
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn perform(&self, work: Work) {
        match work {
            Work::Reach(event, ticket) => event.reach(ticket),
            Work::Await(event, ticket) => {
                let skips = state().settings.skip_waits > 0;
                if !skips {
                    event.wait(ticket);
                }
            }
            work => {
                let delay = state().settings.copy_delay_us;
                if delay > 0 && work.is_copy() {
                    thread::sleep(Duration::from_micros(self.late(delay)));
                }
                let mut state = state();
                // A lost device does nothing any more; what was to be freed is gone with it.
                let lost = state.devices[self.device].lost.is_some()
                    || state.lost_contexts.contains(&self.context);
                if !lost || matches!(work, Work::Free(_)) {
                    self.touch(&mut state, work);
                }
            }
        }
    }

    fn touch(&self, state: &mut State, work: Work) {
        let stream = Some(self.number);
        let wrong = match work {
            Work::Upload { to, from } => upload(state, to, &from, stream),
            Work::Download { to, from, len } => match state.memory.bytes(from, len, stream) {
                // SAFETY: who enqueued the work promised `len` writable bytes at `to` until it
                // has run.
                Some(bytes) => unsafe {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, len);
                    None
                },
                None => Some(format!(
                    "download of {len} bytes from dead memory {from:#x}"
                )),
            },
            Work::Move { to, from, len } => {
                let taken = state.memory.bytes(from, len, stream).map(|b| b.to_vec());
                match (taken, state.memory.bytes(to, len, stream)) {
                    (Some(taken), Some(bytes)) => {
                        bytes.copy_from_slice(&taken);
                        None
                    }
                    _ => Some(format!(
                        "move of {len} bytes {from:#x} -> {to:#x}: dead memory"
                    )),
                }
            }
            Work::Fill { to, byte, len } => match state.memory.bytes(to, len, stream) {
                Some(bytes) => {
                    bytes.fill(byte);
                    None
                }
                None => Some(format!("fill of {len} bytes of dead memory {to:#x}")),
            },
            Work::Ready(address) => {
                state.memory.ready(address);
                None
            }
            Work::Free(address) => match state.memory.free(address) {
                Ok(()) => None,
                Err(_) => Some(format!("{address:#x} freed twice")),
            },
            Work::Reach(..) | Work::Await(..) => None,
        };
        if let Some(wrong) = wrong {
            state.violation(self.device, wrong);
        }
    }

    /// A delay of 0 to twice the mean, the same in every run for the same order of work.
    fn late(&self, mean: u64) -> u64 {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut x = COUNT.fetch_add(1, Ordering::Relaxed) + self.number * 0x9e37_79b9;
        x = (x ^ (x >> 7)).wrapping_mul(0x2545_f491_4f6c_dd1d);
        (x >> 33) % (2 * mean)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn upload(state: &mut State, to: u64, from: &HostBytes, stream: Option<u64>) -> Option<String> {
    let (start, len) = match from {
        HostBytes::Taken(bytes) => (bytes.as_ptr().addr(), bytes.len()),
        HostBytes::Pinned { start, len } if state.memory.is_pinned(*start, *len) => (*start, *len),
        HostBytes::Pinned { len, .. } => {
            return Some(format!("upload of {len} bytes that are pinned no more"));
        }
    };
    match state.memory.bytes(to, len, stream) {
        // SAFETY: pinned memory is alive while it is registered, which was checked under the lock
        // that unregistering takes; taken bytes are ours.
        Some(bytes) => unsafe {
            std::ptr::copy_nonoverlapping(start as *const u8, bytes.as_mut_ptr(), len);
            None
        },
        None => Some(format!("upload of {len} bytes to dead memory {to:#x}")),
    }
}

impl Work {
    fn is_copy(&self) -> bool {
        matches!(
            self,
            Work::Upload { .. } | Work::Download { .. } | Work::Move { .. } | Work::Fill { .. }
        )
    }
}
