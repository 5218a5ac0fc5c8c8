//! Reads by io_uring: many in flight from one thread.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use io_uring::{IoUring, opcode, types};

/// Bytes of one request.
const REQUEST_BYTES: usize = 2 << 20;
/// Requests in flight for each ring.
const DEPTH: u32 = 8;

/// How long to sleep between polls if the kernel cannot wait for requests.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The rings of one file, one for each thread that reads at once.
pub(crate) struct Rings {
    free: Mutex<Vec<IoUring>>,
    make: fn() -> io::Result<IoUring>,
}

impl Rings {
    /// Asks the kernel for a first ring.
    ///
    /// # Errors
    /// Where the kernel has none (before 5.6), or where it is switched off: `ENOSYS`, `EPERM`.
    pub(crate) fn new() -> io::Result<Self> {
        let make = || IoUring::new(DEPTH);
        Ok(Self {
            free: Mutex::new(vec![make()?]),
            make,
        })
    }

    /// An empty set of rings that cannot grow.
    #[cfg(test)]
    pub(crate) fn exhausted() -> Self {
        Self {
            free: Mutex::default(),
            make: || Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }

    /// Reads bytes from `offset` on, in several requests at once; returns how many there are
    /// without a gap from the first on.
    ///
    /// # Errors
    /// Errors of the ring, with nothing left in flight: the bytes may be read in another way. The
    /// inner result is that of the read itself.
    pub(crate) fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut [u8],
    ) -> io::Result<io::Result<usize>> {
        let free = self.lock().pop();
        let mut ring = free.map_or_else(self.make, Ok)?;
        let read = read_all(&mut ring, file, offset, buf, |ring| ring.submit_and_wait(1))?;
        // A failed ring may still hold requests, so it is not used again.
        self.lock().push(ring);
        Ok(read)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<IoUring>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps up to [`DEPTH`] requests in flight until all are done; `submit` hands them to the kernel
/// and waits for one.
fn read_all(
    ring: &mut IoUring,
    file: &File,
    offset: u64,
    buf: &mut [u8],
    mut submit: impl FnMut(&IoUring) -> io::Result<usize>,
) -> io::Result<io::Result<usize>> {
    let fd = types::Fd(file.as_raw_fd());
    let mut results: Vec<Option<io::Result<usize>>> = Vec::new();
    let lens: Vec<usize> = buf.chunks(REQUEST_BYTES).map(<[u8]>::len).collect();
    results.resize_with(lens.len(), || None);
    let mut waiting = buf.chunks_mut(REQUEST_BYTES).enumerate();
    // Requests in the ring, and those that the kernel has.
    let (mut queued, mut in_flight) = (0, 0);
    loop {
        while queued + in_flight < DEPTH as usize {
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
            queued += 1;
        }
        if queued + in_flight == 0 {
            break;
        }
        match submit(ring) {
            Ok(submitted) => {
                queued = queued.saturating_sub(submitted);
                in_flight += submitted;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // This call submitted nothing, but the kernel still writes to `buf` for earlier
            // requests.
            Err(error) => {
                land(ring, in_flight);
                return Err(error);
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
            in_flight = in_flight.saturating_sub(1);
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
            // Earlier bytes are valid; the next call returns the error again.
            Err(_) if total > 0 => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(total))
}

/// Waits until no request is in flight, without a call that the kernel could refuse: completions
/// appear in shared memory. Like any read, this takes as long as the disk does.
fn land(ring: &mut IoUring, mut in_flight: usize) {
    loop {
        in_flight = in_flight.saturating_sub(ring.completion().count());
        if in_flight == 0 {
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Hands a request to the ring; false if it has no room, which [`DEPTH`] prevents.
#[allow(unsafe_code)]
fn push(ring: &mut IoUring, request: &io_uring::squeue::Entry) -> bool {
    // SAFETY: the request's buffer is a part of `read_all`'s `buf`, which stays borrowed until
    // `read_all` returns: when the last request is complete, or, after a failure, when none is in
    // flight. Those that the kernel never took then go with their ring. The descriptor stays open
    // as long, since `read_all` borrows its file.
    unsafe { ring.submission().push(request) }.is_ok()
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rings")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_ring_that_fails_has_nothing_in_flight_when_it_is_given_up() {
        const LEN: usize = 40 << 20;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; LEN]).unwrap();
        for calls_before in 0..3 {
            // From the disk if possible, so that reads take their time.
            let _ = super::super::drop_page_cache(&file);
            let Ok(mut ring) = IoUring::new(DEPTH) else {
                eprintln!("not run: no io_uring here");
                return;
            };
            let mut buf = vec![0; LEN];
            let mut calls = 0;
            let read = read_all(&mut ring, &file, 0, &mut buf, |ring| {
                calls += 1;
                match calls > calls_before {
                    true => Err(io::Error::from_raw_os_error(libc::EBUSY)),
                    // Waits for nothing, so that all are in flight.
                    false => ring.submit(),
                }
            });
            assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EBUSY));
            // Whatever was begun is complete, so nobody writes here any more.
            for request in buf.chunks(REQUEST_BYTES) {
                assert!(request.iter().all(|&byte| byte == request[0]));
            }
            assert_eq!(ring.completion().count(), 0);
            drop(ring);
            assert_eq!(buf[0], if calls_before == 0 { 0 } else { 7 });
        }
    }
}
