//! Where the data of all entries begin: the entries' own headers, read in the order of the file.

use std::ops::Range;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use super::headers::{Headers, scan};
use super::problem::ArchiveProblem;
use super::{Archive, ZipEntry};
use crate::container::unclaimed::{Unclaimed, UnclaimedPlace};
use crate::error::{EntryProblem, Error, Result};

/// The number of headers that are read before their latency is estimated.
const FIRST_HEADERS: usize = 8;
/// A header that takes this long had to wait for a disk or a network.
const WAITED: Duration = Duration::from_micros(20);
/// The most time that one thread may wait for all headers.
const LONG: Duration = Duration::from_millis(5);
/// The most threads that wait for headers.
const HEADER_THREADS: u64 = 32;
/// A thread for fewer bytes of the file spends its reads on growing its window.
const THREAD_BYTES: u64 = 1 << 20;

/// Where the data of an archive's entries begin.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// By place in the directory, in bytes from the start of the file.
    pub(crate) data: Vec<u64>,
    pub(crate) unclaimed: Vec<Unclaimed>,
}

/// Finds where each entry's data begin, and checks that the entries fill the file.
pub(super) fn locate(archive: &Archive<'_>) -> Result<Located> {
    let start_of = |place: &u32| archive.entries[*place as usize].header_start;
    let mut order: Vec<u32> = room(archive.len())?;
    order.extend(0..archive.len() as u32);
    if !order.is_sorted_by_key(start_of) {
        order.sort_unstable_by_key(start_of);
    }
    let first = order.first().map_or(archive.directory.start, start_of);
    if first != 0 {
        return Err(ArchiveProblem::LateFirstEntry { offset: first }.into());
    }
    let mut located = Located {
        data: room(archive.len())?,
        unclaimed: Vec::new(),
    };
    located.data.resize(archive.len(), 0);
    let found = read_headers(archive, &order)?;
    for (&place, &data) in order.iter().zip(&found.data) {
        located.data[place as usize] = data;
    }
    located.unclaimed = found.unclaimed;
    let archive_end = archive.archive_end;
    if let Some(byte_len @ 1..) = archive.storage.len().checked_sub(archive_end) {
        let zeros = scan(archive.storage, archive_end, byte_len)?;
        located.unclaimed.push(Unclaimed {
            offset: archive_end,
            byte_len,
            place: UnclaimedPlace::Archive,
            zeros,
        });
    }
    Ok(located)
}

/// Reads the headers of all entries, which are in the order of the file.
///
/// Entries of large tensors lie far apart, so each read may wait for a disk or a network. If the
/// first few do, several threads read the rest.
fn read_headers(archive: &Archive<'_>, order: &[u32]) -> Result<Located> {
    let first = order.len().min(FIRST_HEADERS);
    let clock = Instant::now();
    let mut found = read_part(archive, order, 0..first)?;
    let each = clock.elapsed() / first.max(1) as u32;
    let rest = order.len() - first;
    if each < WAITED || each * rest as u32 <= LONG {
        found.append(read_part(archive, order, first..order.len())?);
        return Ok(found);
    }
    let start_of = |at: usize| archive.entries[order[at] as usize].header_start;
    let span = start_of(order.len() - 1) - start_of(first);
    let threads = span.div_ceil(THREAD_BYTES).clamp(1, HEADER_THREADS);
    std::thread::scope(|scope| {
        let part_len = rest.div_ceil(threads as usize);
        let parts: Vec<_> = (first..order.len())
            .step_by(part_len)
            .map(|start| {
                let part = start..order.len().min(start + part_len);
                let read = move || read_part(archive, order, part.clone());
                // If the system refuses a thread, this one reads the part.
                let thread = std::thread::Builder::new().spawn_scoped(scope, read.clone());
                thread.map_err(|_| read)
            })
            .collect();
        for part in parts {
            found.append(match part {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                Err(read) => read()?,
            });
        }
        Ok(found)
    })
}

/// Reads the headers of some entries, and the bytes after the data of each.
fn read_part(archive: &Archive<'_>, order: &[u32], part: Range<usize>) -> Result<Located> {
    let mut headers = Headers::new(archive);
    let mut found = Located {
        data: room(part.len())?,
        unclaimed: Vec::new(),
    };
    for at in part {
        let entry = ZipEntry(order[at] as usize);
        let next = order.get(at + 1).map(|&next| ZipEntry(next as usize));
        let end = next.map_or(archive.directory.start, |next| {
            archive.listed(next).header_start
        });
        let header = headers.read(entry)?;
        let data_end = header.data.saturating_add(archive.listed(entry).compressed);
        archive.check_end(entry, data_end)?;
        if data_end > end {
            let other = next.map_or_else(String::new, |next| archive.shown_name(next));
            let start = archive.listed(entry).header_start;
            let end = data_end;
            return Err(archive.error(entry, EntryProblem::Overlap { start, end, other }));
        }
        found.data.push(header.data);
        found
            .unclaimed
            .extend(headers.behind(entry, &header, data_end..end)?);
    }
    Ok(found)
}

/// A vector with room for that many items; they are counted with the directory.
fn room<T>(items: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(items).map_err(|_| Error::NoMemory {
        bytes: (items * size_of::<T>()) as u64,
    })?;
    Ok(vec)
}

impl Located {
    fn append(&mut self, other: Self) {
        self.data.extend(other.data);
        self.unclaimed.extend(other.unclaimed);
    }
}
