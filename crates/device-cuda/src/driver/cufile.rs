//! cuFile: reads from storage that land in device memory.
//!
//! Its symbols are looked up here. cudarc's feature `cufile` would link the library into builds
//! where another
//! crate links CUDA, and turns return codes that it does not know into values of an enum.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, OnceLock};

use libloading::Library;
use thiserror::Error;

use super::call::CallError;
use super::context::Context;
use super::memory::Allocation;
use super::stream::Stream;

/// The alignment of offsets, lengths and addresses with which cuFile needs no bounce buffer.
pub(crate) const ALIGNMENT: u64 = 4096;

const NAMES: [&str; 2] = ["libcufile.so.0", "libcufile.so"];
/// `CU_FILE_HANDLE_TYPE_OPAQUE_FD`.
const OPAQUE_FD: c_uint = 1;

/// Why cuFile cannot read.
#[derive(Debug, Error)]
pub(crate) enum CuFileError {
    #[error("the cuFile library (libcufile.so.0) is not installed")]
    LibraryMissing,
    #[error("the cuFile library lacks {0}")]
    SymbolMissing(&'static str),
    /// The code is a `CUfileOpError`, the other the driver's, where cuFile passes it on.
    #[error("{call} returned {code} (driver: {driver})")]
    Call {
        call: &'static str,
        code: i64,
        driver: u32,
    },
    #[error(transparent)]
    Driver(#[from] CallError),
    #[error("{what} failed")]
    Io {
        what: &'static str,
        source: io::Error,
    },
    #[error("the file ended {missing} bytes early")]
    ShortFile { missing: usize },
}

/// `CUfileError_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    file: c_uint,
    driver: c_uint,
}

/// `CUfileDescr_t`.
#[repr(C)]
struct Description {
    kind: c_uint,
    file: FileUnion,
    operations: *const c_void,
}

#[repr(C)]
union FileUnion {
    descriptor: c_int,
    _handle: *mut c_void,
}

/// `CUfileDrvProps_t`, with room for what later versions append.
#[repr(C)]
struct Properties {
    major_version: c_uint,
    minor_version: c_uint,
    poll_threshold: usize,
    most_direct_bytes: usize,
    /// A bit for each kind of storage that can be reached directly.
    storages: c_uint,
    rest: [c_uint; 64],
}

type Handle = *mut c_void;
type Open = unsafe extern "C" fn() -> Status;
type GetProperties = unsafe extern "C" fn(*mut Properties) -> Status;
type HandleRegister = unsafe extern "C" fn(*mut Handle, *const Description) -> Status;
type HandleDeregister = unsafe extern "C" fn(Handle);
type BufRegister = unsafe extern "C" fn(*const c_void, usize, c_int) -> Status;
type BufDeregister = unsafe extern "C" fn(*const c_void) -> Status;
type Read = unsafe extern "C" fn(Handle, *mut c_void, usize, libc::off_t, libc::off_t) -> isize;

/// The library, open for the rest of the process: closing it would close it for others too.
#[derive(Debug)]
pub(crate) struct CuFile {
    get_properties: GetProperties,
    handle_register: HandleRegister,
    handle_deregister: HandleDeregister,
    buf_register: BufRegister,
    buf_deregister: BufDeregister,
    read: Read,
    _library: Library,
}

impl CuFile {
    /// The library, opened once.
    pub(crate) fn get(context: &Context) -> Result<&'static CuFile, CuFileError> {
        static OPEN: OnceLock<CuFile> = OnceLock::new();
        if let Some(open) = OPEN.get() {
            return Ok(open);
        }
        let _bound = context.bind()?;
        let open = CuFile::open()?;
        Ok(OPEN.get_or_init(|| open))
    }

    fn open() -> Result<Self, CuFileError> {
        let library = NAMES
            .into_iter()
            // SAFETY: loading runs the initialisers of a library that belongs to the driver.
            .find_map(|name| unsafe { Library::new(name) }.ok())
            .ok_or(CuFileError::LibraryMissing)?;
        // SAFETY: each symbol is asked for by the type that `cufile.h` gives it.
        let (open, cufile) = unsafe {
            let open: Open = symbol(&library, "cuFileDriverOpen")?;
            let cufile = Self {
                get_properties: symbol(&library, "cuFileDriverGetProperties")?,
                handle_register: symbol(&library, "cuFileHandleRegister")?,
                handle_deregister: symbol(&library, "cuFileHandleDeregister")?,
                buf_register: symbol(&library, "cuFileBufRegister")?,
                buf_deregister: symbol(&library, "cuFileBufDeregister")?,
                read: symbol(&library, "cuFileRead")?,
                _library: library,
            };
            (open, cufile)
        };
        // SAFETY: the call takes nothing; opening twice is allowed.
        status("cuFileDriverOpen", unsafe { open() })?;
        Ok(cufile)
    }

    /// Whether any kind of storage is reached directly; otherwise cuFile copies through the host,
    /// slower than we do.
    pub(crate) fn reaches_storage(&self) -> Result<bool, CuFileError> {
        let mut properties = MaybeUninit::<Properties>::zeroed();
        // SAFETY: the pointer is to room for the structure, and more.
        let asked = unsafe { (self.get_properties)(properties.as_mut_ptr()) };
        status("cuFileDriverGetProperties", asked)?;
        // SAFETY: zeroed before, and integers throughout.
        Ok(unsafe { properties.assume_init() }.storages != 0)
    }
}

/// # Safety
/// `T` must be the type of the symbol.
unsafe fn symbol<T: Copy>(library: &Library, name: &'static str) -> Result<T, CuFileError> {
    // SAFETY: the caller answers for the type.
    let symbol = unsafe { library.get::<T>(name.as_bytes()) };
    symbol
        .map(|symbol| *symbol)
        .map_err(|_| CuFileError::SymbolMissing(name))
}

fn status(call: &'static str, status: Status) -> Result<(), CuFileError> {
    match status.file {
        0 => Ok(()),
        code => Err(CuFileError::Call {
            call,
            code: code.into(),
            driver: status.driver,
        }),
    }
}

/// A file that is registered with cuFile.
#[derive(Debug)]
pub(crate) struct RegisteredFile {
    cufile: &'static CuFile,
    handle: Handle,
    /// Opened only for this, past the page cache; open until the handle is released.
    _file: File,
}

// SAFETY: cuFile reads through one handle from any number of threads.
unsafe impl Send for RegisteredFile {}
// SAFETY: as above.
unsafe impl Sync for RegisteredFile {}

impl RegisteredFile {
    pub(crate) fn new(cufile: &'static CuFile, file: &File) -> Result<Self, CuFileError> {
        // The same file, even if its name changed.
        let direct = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .map_err(|source| CuFileError::Io {
                what: "opening past the page cache",
                source,
            })?;
        let description = Description {
            kind: OPAQUE_FD,
            file: FileUnion {
                descriptor: direct.as_raw_fd(),
            },
            operations: std::ptr::null(),
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: both pointers are to live values; the descriptor is kept open with the handle.
        let registered =
            unsafe { (cufile.handle_register)(&raw mut handle, &raw const description) };
        status("cuFileHandleRegister", registered)?;
        Ok(Self {
            cufile,
            handle,
            _file: direct,
        })
    }

    pub(crate) fn cufile(&self) -> &'static CuFile {
        self.cufile
    }

    /// Reads at least `needed` bytes from `offset` on into a buffer, in whole pages where the file
    /// has them.
    pub(crate) fn read(
        &self,
        buffer: &mut DeviceBuffer,
        offset: u64,
        needed: usize,
    ) -> Result<(), CuFileError> {
        let room = needed.next_multiple_of(ALIGNMENT as usize);
        let room = room.min(buffer.memory.len());
        let bound = buffer.memory.context().bind()?;
        let mut done = 0;
        while done < needed.min(room) {
            let position = libc::off_t::try_from(offset).ok();
            let position = position.and_then(|offset| offset.checked_add(done as libc::off_t));
            let Some(position) = position else {
                return Err(CuFileError::ShortFile { missing: needed });
            };
            // SAFETY: `done` is below `room`, so the read stays inside the buffer, which is
            // borrowed for ourselves; the call returns when the bytes are there.
            let read = unsafe {
                let start = buffer.memory.address() as *mut c_void;
                (self.cufile.read)(
                    self.handle,
                    start,
                    room - done,
                    position,
                    done as libc::off_t,
                )
            };
            match read {
                0 => {
                    let missing = needed - done;
                    return Err(CuFileError::ShortFile { missing });
                }
                -1 => {
                    return Err(CuFileError::Io {
                        what: "cuFileRead",
                        source: io::Error::last_os_error(),
                    });
                }
                ..-1 => {
                    return Err(CuFileError::Call {
                        call: "cuFileRead",
                        code: -(read as i64),
                        driver: 0,
                    });
                }
                1.. => done += (read as usize).min(room - done),
            }
        }
        drop(bound);
        match needed.checked_sub(done) {
            Some(missing @ 1..) => Err(CuFileError::ShortFile { missing }),
            _ => Ok(()),
        }
    }
}

impl Drop for RegisteredFile {
    fn drop(&mut self) {
        // SAFETY: registered in `new`, given back once; no read is under way, as each borrows.
        unsafe { (self.cufile.handle_deregister)(self.handle) };
    }
}

/// Device memory that cuFile reads into, registered with it.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    cufile: &'static CuFile,
    memory: Allocation,
}

impl DeviceBuffer {
    pub(crate) fn new(
        cufile: &'static CuFile,
        stream: &Arc<Stream>,
        len: usize,
    ) -> Result<Self, CuFileError> {
        let memory = Allocation::new(stream, len)?;
        let _bound = memory.context().bind()?;
        // SAFETY: the memory is alive until it is deregistered in `drop`.
        let registered =
            unsafe { (cufile.buf_register)(memory.address() as *const c_void, len, 0) };
        status("cuFileBufRegister", registered)?;
        drop(_bound);
        Ok(Self { cufile, memory })
    }

    pub(crate) fn memory(&self) -> &Allocation {
        &self.memory
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let _bound = self.memory.context().bind_anyhow();
        // SAFETY: registered in `new`, given back once, before the memory goes.
        let given_back =
            unsafe { (self.cufile.buf_deregister)(self.memory.address() as *const c_void) };
        if let Err(error) = status("cuFileBufDeregister", given_back) {
            tracing::debug!(%error, "a release failed");
        }
    }
}
