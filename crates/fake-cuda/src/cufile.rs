//! The calls of cuFile: reads that land in device memory, and can turn bad after a good start.

use std::ffi::{c_int, c_uint, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::state::{Code, SUCCESS, enter, enter_release, state};

/// `CU_FILE_INVALID_VALUE`, of `CUfileOpError`.
const FILE_INVALID_VALUE: i64 = 5022;
/// `CU_FILE_HANDLE_NOT_REGISTERED`.
const FILE_NOT_REGISTERED: i64 = 5027;
/// `CU_FILE_CUDA_MEMORY_TYPE_INVALID`.
const MEMORY_TYPE_INVALID: i64 = 5013;

/// `CUfileError_t`: cuFile's own code and the driver's.
#[repr(C)]
#[derive(Clone, Copy)]
struct FileError {
    file: c_uint,
    driver: Code,
}

impl FileError {
    const NONE: Self = Self {
        file: 0,
        driver: SUCCESS,
    };

    fn file(code: u64) -> Self {
        Self {
            file: code as c_uint,
            driver: SUCCESS,
        }
    }

    /// `CU_FILE_CUDA_DRIVER_ERROR` with the driver's code.
    fn driver(driver: Code) -> Self {
        Self { file: 5011, driver }
    }
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
    handle: *mut c_void,
}

/// The beginning of `CUfileDrvProps_t`.
#[repr(C)]
struct Properties {
    major_version: c_uint,
    minor_version: c_uint,
    poll_threshold: usize,
    most_direct_bytes: usize,
    storages: c_uint,
    controls: c_uint,
}

#[unsafe(no_mangle)]
extern "C" fn cuFileDriverOpen() -> FileError {
    match enter("cuFileDriverOpen") {
        Err(code) => FileError::driver(code),
        Ok(state) => FileError::file(state.settings.cufile_open_error),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuFileDriverGetProperties(properties: *mut Properties) -> FileError {
    match enter("cuFileDriverGetProperties") {
        Err(code) => FileError::driver(code),
        Ok(state) => {
            let known = Properties {
                major_version: 2,
                minor_version: 17,
                poll_threshold: 4,
                most_direct_bytes: 16 << 10,
                storages: state.settings.cufile_storages as c_uint,
                controls: 0,
            };
            // SAFETY: the caller gave room for the whole structure, of which this is the head.
            unsafe { properties.write(known) };
            FileError::NONE
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuFileHandleRegister(
    handle: *mut usize,
    description: *const Description,
) -> FileError {
    let mut state = match enter("cuFileHandleRegister") {
        Err(code) => return FileError::driver(code),
        Ok(state) => state,
    };
    if state.settings.cufile_register_error > 0 {
        return FileError::file(state.settings.cufile_register_error);
    }
    // SAFETY: the caller gave a description of a file by descriptor, which is the only kind that
    // is registered here, and keeps the descriptor open until the handle is given back.
    let descriptor = unsafe { (*description).file.descriptor };
    // Opened again without the direct mode, which binds buffers to an alignment.
    let Ok(file) = File::open(format!("/proc/self/fd/{descriptor}")) else {
        return FileError::file(FILE_INVALID_VALUE as u64);
    };
    let made = state.handle();
    state.files.insert(made, file);
    // SAFETY: the caller gave a pointer for the handle.
    unsafe { handle.write(made) };
    FileError::NONE
}

#[unsafe(no_mangle)]
extern "C" fn cuFileHandleDeregister(handle: usize) {
    let (mut state, _) = enter_release("cuFileHandleDeregister");
    if state.files.remove(&handle).is_none() {
        state
            .violations
            .push(format!("file handle {handle:#x} given back twice"));
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuFileBufRegister(_start: u64, _len: usize, _flags: c_int) -> FileError {
    match enter("cuFileBufRegister") {
        Err(code) => FileError::driver(code),
        Ok(mut state) => {
            state.buffers_registered += 1;
            FileError::NONE
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuFileBufDeregister(_start: u64) -> FileError {
    let (mut state, code) = enter_release("cuFileBufDeregister");
    state.buffers_registered -= 1;
    match code {
        SUCCESS => FileError::NONE,
        code => FileError::driver(code),
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuFileRead(handle: usize, start: u64, len: usize, offset: i64, skip: i64) -> i64 {
    let (file, most, wrong) = {
        let mut state = match enter("cuFileRead") {
            Err(code) => return -i64::from(code),
            Ok(state) => state,
        };
        state.file_reads += 1;
        let reads = state.file_reads;
        let settings = &state.settings;
        if settings.cufile_read_error > 0 && reads > settings.cufile_good_reads {
            return -(settings.cufile_read_error as i64);
        }
        let most = match settings.cufile_most {
            0 => len,
            most => len.min(most as usize),
        };
        let wrong = settings.cufile_wrong_from > 0 && reads >= settings.cufile_wrong_from;
        let Some(file) = state
            .files
            .get(&handle)
            .and_then(|file| file.try_clone().ok())
        else {
            return -FILE_NOT_REGISTERED;
        };
        (file, most, wrong)
    };
    let (Ok(offset), Ok(skip)) = (u64::try_from(offset), u64::try_from(skip)) else {
        return -FILE_INVALID_VALUE;
    };
    let mut bytes = vec![0; most];
    let Ok(read) = file.read_at(&mut bytes, offset) else {
        return -1;
    };
    if let (true, Some(byte)) = (wrong, bytes.first_mut()) {
        *byte ^= 0xff;
    }
    match state().memory.bytes(start + skip, read, None) {
        Some(to) => to.copy_from_slice(&bytes[..read]),
        None => return -MEMORY_TYPE_INVALID,
    }
    read as i64
}
