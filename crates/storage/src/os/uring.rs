//! Reads by io_uring: many in flight from one thread.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use io_uring::{IoUring, opcode, types};

/// Bytes of one request.
const REQUEST_BYTES: usize = 2 << 20;
/// Requests in flight for each ring.
const DEPTH: u32 = 8;

/// The rings of one file, one for each thread that reads at once.
pub(crate) struct Rings {
    free: Mutex<Vec<IoUring>>,
}

impl Rings {
    /// Asks the kernel for a first ring.
    ///
    /// # Errors
    /// Where the kernel has none (before 5.6), or where it is switched off: `ENOSYS`, `EPERM`.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = new_ring()?;
        Ok(Self {
            free: Mutex::new(vec![ring]),
        })
    }

    /// Reads bytes from `offset` on, in several requests at once; returns how many there are
    /// without a gap from the first on.
    pub(crate) fn read_at(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut ring = free.map_or_else(new_ring, Ok)?;
        let read = read_all(&mut ring, file, offset, buf);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ring);
        read
    }
}

fn new_ring() -> io::Result<IoUring> {
    IoUring::new(DEPTH)
}

/// Keeps up to [`DEPTH`] requests in flight until all are done.
fn read_all(ring: &mut IoUring, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let fd = types::Fd(file.as_raw_fd());
    let mut results: Vec<Option<io::Result<usize>>> = Vec::new();
    let lens: Vec<usize> = buf.chunks(REQUEST_BYTES).map(<[u8]>::len).collect();
    results.resize_with(lens.len(), || None);
    let mut waiting = buf.chunks_mut(REQUEST_BYTES).enumerate();
    let mut in_flight = 0;
    loop {
        while in_flight < DEPTH {
            let Some((index, chunk)) = waiting.next() else {
                break;
            };
            let at = offset + (index * REQUEST_BYTES) as u64;
            // A chunk is `REQUEST_BYTES` long at most, so its length fits.
            let request = opcode::Read::new(fd, chunk.as_mut_ptr(), chunk.len() as u32)
                .offset(at)
                .build()
                .user_data(index as u64);
            if !push(ring, &request) {
                break;
            }
            in_flight += 1;
        }
        if in_flight == 0 {
            break;
        }
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The kernel may still write to `buf`, so there is no way back from here.
            Err(error) => {
                tracing::error!(%error, "io_uring lost its requests");
                std::process::abort();
            }
        }
        for done in ring.completion() {
            let result = match done.result() {
                read if read >= 0 => Ok(read as usize),
                error => Err(io::Error::from_raw_os_error(-error)),
            };
            if let Some(slot) = results.get_mut(done.user_data() as usize) {
                *slot = Some(result);
            }
            in_flight -= 1;
        }
    }
    let mut total = 0;
    for (result, len) in results.into_iter().map_while(|result| result).zip(lens) {
        match result {
            Ok(read) => {
                total += read;
                if read < len {
                    break;
                }
            }
            // What came before is good; the next call meets the error again.
            Err(_) if total > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Hands a request to the ring; false if it has no room, which [`DEPTH`] prevents.
#[allow(unsafe_code)]
fn push(ring: &mut IoUring, request: &io_uring::squeue::Entry) -> bool {
    // SAFETY: the request's buffer is a part of `read_all`'s `buf`, which stays borrowed until the
    // last request is complete: `read_all` returns only when none is in flight, or aborts. The
    // descriptor stays open as long, since `read_all` borrows its file.
    unsafe { ring.submission().push(request) }.is_ok()
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rings")
    }
}
