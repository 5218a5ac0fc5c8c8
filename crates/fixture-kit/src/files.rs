use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{CheckpointSpec, Format, safetensors, torch};

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What to open: the file, or the folder if there are several.
    pub path: PathBuf,
    /// The files, in the order of the shards.
    pub files: Vec<PathBuf>,
    /// The index file, if there is one.
    pub index: Option<PathBuf>,
}

/// # Writing
impl CheckpointSpec {
    /// Writes the checkpoint into `folder`, which is created, under the names that the hub uses.
    ///
    /// The bytes are streamed: a checkpoint of many GiB needs a few MiB of memory, unless it has
    /// views in a safetensors file or compressed entries.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> io::Result<Written> {
        fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for (shard, name) in self.file_names().iter().enumerate() {
            let path = folder.join(name);
            let mut out = BufWriter::with_capacity(4 << 20, File::create(&path)?);
            self.write_shard(shard, &mut out)?;
            out.into_inner()?;
            files.push(path);
        }
        if self.shards == 1 {
            let path = files[0].clone();
            return Ok(Written {
                path,
                files,
                index: None,
            });
        }
        let index = folder.join(self.index_name());
        fs::write(&index, self.index())?;
        Ok(Written {
            path: folder.to_owned(),
            files,
            index: Some(index),
        })
    }

    /// Writes one shard.
    ///
    /// # Errors
    /// Those of the writer.
    ///
    /// # Panics
    /// If there are fewer shards.
    pub fn write_shard(&self, shard: usize, out: &mut dyn Write) -> io::Result<()> {
        assert!(shard < self.shards, "shard {shard} of {}", self.shards);
        match &self.format {
            Format::Safetensors(options) => safetensors::write(self, shard, options, out),
            Format::TorchZip(options) => torch::write_zip(self, shard, options, out),
            Format::TorchLegacy(options) => torch::write_legacy(self, shard, options, out),
        }
    }

    /// The bytes of the only file, or of the first shard.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.shard_bytes(0)
    }

    /// The bytes of a shard.
    ///
    /// # Panics
    /// If there are fewer shards.
    #[must_use]
    pub fn shard_bytes(&self, shard: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_shard(shard, &mut bytes)
            .expect("memory takes all");
        bytes
    }

    /// The names of the files, in the order of the shards.
    #[must_use]
    pub fn file_names(&self) -> Vec<String> {
        let (stem, extension) = self.stem();
        if self.shards == 1 {
            return vec![format!("{stem}.{extension}")];
        }
        (1..=self.shards)
            .map(|shard| format!("{stem}-{shard:05}-of-{:05}.{extension}", self.shards))
            .collect()
    }

    /// The name of the index file.
    #[must_use]
    pub fn index_name(&self) -> String {
        let (stem, extension) = self.stem();
        format!("{stem}.{extension}.index.json")
    }

    /// The index file.
    #[must_use]
    pub fn index(&self) -> Vec<u8> {
        let files = self.file_names();
        let mut weight_map = serde_json::Map::new();
        for (shard, file) in files.iter().enumerate() {
            for position in self.positions(shard) {
                let name = self.tensors[position].name.clone();
                weight_map.insert(name, json!(file));
            }
        }
        let index = json!({
            "metadata": { "total_size": self.total_bytes() },
            "weight_map": weight_map,
        });
        let mut bytes = serde_json::to_vec_pretty(&index).expect("strings are JSON");
        bytes.push(b'\n');
        bytes
    }

    fn stem(&self) -> (&'static str, &'static str) {
        match self.format {
            Format::Safetensors(_) => ("model", "safetensors"),
            Format::TorchZip(_) | Format::TorchLegacy(_) => ("pytorch_model", "bin"),
        }
    }
}
