//! Zip archives, which `torch.save` writes since 1.6.

use std::panic::resume_unwind;

use tensorlift_tensor_meta::{ByteOrder, Source};

use crate::catalog::{self, Tree};
use crate::container::storages::{Storages, ZipStorages};
use crate::container::zip::{Archive, Located, ZipEntry};
use crate::error::{Error, Result};
use crate::pickle::display_text;

use super::file::{Format, TorchFile};
use super::reader::{Parsed, TorchReader};

/// From this number of entries on, headers and pickles are read at the same time.
const ENTRIES_WORTH_A_THREAD: usize = 2048;

/// The pickles of an archive, each with its entry.
struct ZipPickles {
    folder: Vec<u8>,
    byte_order: ByteOrder,
    main: (ZipEntry, Parsed),
    /// The pickles of a TorchScript archive.
    constants: Option<(ZipEntry, Parsed)>,
}

impl TorchReader<'_> {
    pub(super) fn zip(&mut self) -> Result<TorchFile> {
        let limits = &self.options.limits;
        let archive = Archive::open(self.storage, limits, &mut self.budget)?;
        let (located, pickles) = self.headers_and_pickles(&archive);
        let (located, pickles) = (located?, pickles?);
        let storages = |subfolder: &str| {
            Storages::Zip(ZipStorages {
                archive: &archive,
                located: &located,
                folder: inside(&pickles.folder, subfolder),
            })
        };
        let (data, constant_data) = (storages("data/"), storages("constants/"));
        let mut trees = Vec::with_capacity(2);
        let parts = [
            (Some(&pickles.main), "", &data),
            (pickles.constants.as_ref(), "constants", &constant_data),
        ];
        for (part, prefix, storages) in parts {
            let Some((entry, parsed)) = part else {
                continue;
            };
            let record = archive.record(*entry, located.data[entry.0])?;
            let pickle_at = match record.source {
                Source::Stored(extent) => Some(extent.offset),
                _ => None,
            };
            trees.push(Tree {
                objects: parsed.objects(),
                root: parsed.root,
                prefix,
                storages,
                byte_order: pickles.byte_order,
                pickle_at,
            });
        }
        let listed = catalog::list(&trees, limits, self.budget.clone())?;
        let format = match trees.len() {
            1 => Format::Zip,
            _ => Format::TorchScript,
        };
        self.unclaimed.extend_from_slice(&located.unclaimed);
        self.finish(listed, pickles.main.1, format)
    }

    /// Finds where the entries of an archive begin, and reads its pickles; in a large archive both
    /// at once, if the system grants a thread.
    fn headers_and_pickles(
        &mut self,
        archive: &Archive<'_>,
    ) -> (Result<Located>, Result<ZipPickles>) {
        if archive.len() >= ENTRIES_WORTH_A_THREAD {
            // The headers are spread over the file; the pickles need two or three of them.
            let both = std::thread::scope(|scope| {
                let builder = std::thread::Builder::new();
                let headers = builder.spawn_scoped(scope, || archive.locate()).ok()?;
                let pickles = self.zip_pickles(archive);
                let located = headers.join().unwrap_or_else(|panic| resume_unwind(panic));
                Some((located, pickles))
            });
            if let Some(both) = both {
                return both;
            }
        }
        (archive.locate(), self.zip_pickles(archive))
    }

    /// Reads the pickles of an archive.
    fn zip_pickles(&mut self, archive: &Archive<'_>) -> Result<ZipPickles> {
        let (folder, pickle) = find_pickle(archive)?;
        let find = |name| archive.find(&inside(&folder, name));
        let byte_order = self.byte_order(archive, find("byteorder"))?;
        let main = self.zip_pickle(archive, pickle, "data.pkl")?;
        let constants = match find("constants.pkl") {
            Some(entry) => Some((entry, self.zip_pickle(archive, entry, "constants.pkl")?)),
            None => None,
        };
        Ok(ZipPickles {
            folder,
            byte_order,
            main: (pickle, main),
            constants,
        })
    }

    fn zip_pickle(
        &mut self,
        archive: &Archive<'_>,
        entry: ZipEntry,
        name: &'static str,
    ) -> Result<Parsed> {
        let size = archive.size(entry);
        self.check_pickle_len(size)?;
        let (bytes, at) = archive.read(entry, self.options.verify_crc, &mut self.budget)?;
        let (arena, root, len) = self.run(&bytes, name)?;
        self.check_behind(&bytes, len, at)?;
        Ok(Parsed { arena, root, bytes })
    }

    fn byte_order(&mut self, archive: &Archive<'_>, entry: Option<ZipEntry>) -> Result<ByteOrder> {
        let Some(entry) = entry else {
            return Ok(ByteOrder::Little);
        };
        let found = match archive.size(entry) {
            // The longest name of a byte order.
            0..=16 => {
                let verify = self.options.verify_crc;
                archive.read(entry, verify, &mut self.budget)?.0
            }
            size => {
                return Err(Error::ByteOrder {
                    found: format!("{size} bytes"),
                });
            }
        };
        match &found[..] {
            b"little" => Ok(ByteOrder::Little),
            b"big" => Ok(ByteOrder::Big),
            other => Err(Error::ByteOrder {
                found: display_text(other).into_owned(),
            }),
        }
    }
}

/// The name of an entry in the folder of an archive.
fn inside(folder: &[u8], name: &str) -> Vec<u8> {
    [folder, name.as_bytes()].concat()
}

/// The root folder of an archive, with its slash, and the pickle in it.
///
/// The folder is that of the first entry, as in PyTorch; repacked archives may begin with another,
/// so any top-level folder is accepted.
fn find_pickle(archive: &Archive<'_>) -> Result<(Vec<u8>, ZipEntry)> {
    let folder_of = |name: &[u8]| {
        let slash = name.iter().position(|&byte| byte == b'/');
        slash.map_or(Vec::new(), |slash| name[..=slash].to_vec())
    };
    let pickle_in = |folder: &[u8]| archive.find(&[folder, b"data.pkl"].concat());
    if let Some(folder) = archive.names().next().map(folder_of)
        && let Some(entry) = pickle_in(&folder)
    {
        return Ok((folder, entry));
    }
    let name = archive.names().find(|name| {
        let folder = name.strip_suffix(b"data.pkl");
        folder.is_some_and(|folder| folder.is_empty() || folder == folder_of(name))
    });
    if let Some((folder, entry)) = name.map(folder_of).and_then(|folder| {
        let entry = pickle_in(&folder)?;
        Some((folder, entry))
    }) {
        return Ok((folder, entry));
    }
    let mut names = archive.names();
    let first: Vec<String> = names
        .by_ref()
        .take(3)
        .map(|name| format!("{:?}", display_text(name)))
        .collect();
    let found = match first.len() {
        0 => "an empty archive".to_owned(),
        _ => {
            let more = if names.next().is_some() { ", …" } else { "" };
            format!("{}{more}", first.join(", "))
        }
    };
    Err(Error::NoPickle { found })
}
