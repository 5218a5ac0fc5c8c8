//! All there is, behind one lock: devices, contexts, handles, call counts, planned failures.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::event::Event;
use crate::gate;
use crate::memory::Memory;
use crate::settings::Settings;
use crate::stream::Stream;

/// A `CUresult`.
pub(crate) type Code = u32;

pub(crate) const SUCCESS: Code = 0;
pub(crate) const INVALID_VALUE: Code = 1;
pub(crate) const OUT_OF_MEMORY: Code = 2;
pub(crate) const NOT_INITIALIZED: Code = 3;
pub(crate) const NO_DEVICE: Code = 100;
pub(crate) const INVALID_DEVICE: Code = 101;
pub(crate) const INVALID_CONTEXT: Code = 201;
pub(crate) const INVALID_HANDLE: Code = 400;
pub(crate) const NOT_READY: Code = 600;
pub(crate) const ILLEGAL_ADDRESS: Code = 700;
pub(crate) const ALREADY_REGISTERED: Code = 712;
pub(crate) const NOT_REGISTERED: Code = 713;
pub(crate) const NOT_SUPPORTED: Code = 801;

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new()));

static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The handle of the context that is current to this thread; 0: none.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// Tells threads apart.
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) initialised: bool,
    pub(crate) devices: Vec<DeviceState>,
    pub(crate) memory: Memory,
    pub(crate) streams: HashMap<usize, Arc<Stream>>,
    pub(crate) events: HashMap<usize, Arc<Event>>,
    pub(crate) files: HashMap<usize, File>,
    /// Contexts that were lost, and are gone.
    pub(crate) lost_contexts: HashSet<usize>,
    pub(crate) file_reads: u64,
    pub(crate) buffers_registered: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) calls: BTreeMap<&'static str, u64>,
    /// Every call in order.
    pub(crate) log: Vec<Logged>,
    faults: Vec<Fault>,
    next_handle: usize,
}

/// A device and its primary context.
#[derive(Default)]
pub(crate) struct DeviceState {
    pub(crate) context: usize,
    pub(crate) retained: u64,
    pub(crate) lost: Option<Code>,
    pub(crate) default_stream: Option<Arc<Stream>>,
}

/// A call as it was made.
pub(crate) struct Logged {
    /// The thread, by a number of its own.
    pub(crate) thread: u64,
    pub(crate) call: &'static str,
    pub(crate) bytes: u64,
}

/// A planned failure.
pub(crate) struct Fault {
    pub(crate) call: String,
    /// The number of the call, counted from 1, at which it fails.
    pub(crate) number: u64,
    pub(crate) code: Code,
    /// Whether the device is lost from then on.
    pub(crate) loses: bool,
}

pub(crate) fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a call: counts it, and fails where that is planned or the device is lost.
pub(crate) fn enter(call: &'static str) -> Result<MutexGuard<'static, State>, Code> {
    gate::pass(call)?;
    let mut state = state();
    match state.count(call) {
        None => Ok(state),
        Some(code) => Err(code),
    }
}

/// Begins a call that releases something: the second value is what it returns, whatever it did.
pub(crate) fn enter_release(call: &'static str) -> (MutexGuard<'static, State>, Code) {
    let mut state = state();
    let code = state.count(call).unwrap_or(SUCCESS);
    (state, code)
}

pub(crate) fn current() -> usize {
    CURRENT.get()
}

pub(crate) fn set_current(context: usize) {
    CURRENT.set(context);
}

impl State {
    fn new() -> Self {
        let settings = Settings::from_env();
        let devices = (0..settings.devices)
            .map(|_| DeviceState::default())
            .collect();
        Self {
            settings,
            initialised: false,
            devices,
            memory: Memory::default(),
            streams: HashMap::new(),
            events: HashMap::new(),
            files: HashMap::new(),
            lost_contexts: HashSet::new(),
            file_reads: 0,
            buffers_registered: 0,
            violations: Vec::new(),
            calls: BTreeMap::new(),
            log: Vec::new(),
            faults: Vec::new(),
            next_handle: 0x1000,
        }
    }

    pub(crate) fn handle(&mut self) -> usize {
        self.next_handle += 0x10;
        self.next_handle
    }

    pub(crate) fn plan(&mut self, mut fault: Fault) {
        let so_far = self.calls.iter().find(|(call, _)| **call == fault.call);
        fault.number += so_far.map_or(0, |(_, count)| *count);
        self.faults.push(fault);
    }

    pub(crate) fn forget_faults(&mut self) {
        self.faults.clear();
    }

    /// Tells how many bytes the call is about that was entered last.
    pub(crate) fn about(&mut self, bytes: usize) {
        if let Some(last) = self.log.last_mut() {
            last.bytes += bytes as u64;
        }
    }

    fn count(&mut self, call: &'static str) -> Option<Code> {
        self.log.push(Logged {
            thread: THREAD.with(|thread| *thread),
            call,
            bytes: 0,
        });
        let count = self.calls.entry(call).or_default();
        *count += 1;
        let number = *count;
        let fault = self
            .faults
            .iter()
            .find(|fault| fault.call == call && fault.number == number)
            .map(|fault| (fault.code, fault.loses));
        let device = self.current_device();
        if let (Some((code, true)), Some(device)) = (fault, device) {
            self.devices[device].lost = Some(code);
        }
        fault
            .map(|(code, _)| code)
            .or_else(|| self.devices[device?].lost)
    }

    /// The device of the context that is current to this thread.
    pub(crate) fn current_device(&self) -> Option<usize> {
        let context = current();
        self.devices
            .iter()
            .position(|device| device.retained > 0 && device.context == context)
    }

    pub(crate) fn needs_context(&self) -> Result<usize, Code> {
        if !self.initialised {
            return Err(NOT_INITIALIZED);
        }
        self.current_device().ok_or(INVALID_CONTEXT)
    }

    /// The stream of a handle, the device's default one for null and the two special handles.
    pub(crate) fn stream(&self, handle: usize) -> Result<Arc<Stream>, Code> {
        if handle <= 2 {
            let device = self.needs_context()?;
            return self.devices[device]
                .default_stream
                .clone()
                .ok_or(INVALID_CONTEXT);
        }
        self.streams.get(&handle).cloned().ok_or(INVALID_HANDLE)
    }

    pub(crate) fn event(&self, handle: usize) -> Result<Arc<Event>, Code> {
        self.events.get(&handle).cloned().ok_or(INVALID_HANDLE)
    }

    /// Notes misuse that the real driver would answer with a lost context.
    pub(crate) fn violation(&mut self, device: usize, what: String) {
        self.violations.push(what);
        self.devices[device].lost = Some(ILLEGAL_ADDRESS);
    }
}
