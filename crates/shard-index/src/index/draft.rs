//! The contents of an index file while it is parsed, within the limits.

use std::collections::BTreeMap;

use tensorlift_tensor_meta::Limits;

use super::{BadShardName, Index, IndexError, Names, SHARDS, shard_name};

pub(super) struct Draft<'l> {
    pub(super) limits: &'l Limits,
    names: Names,
    shard_of: Vec<u32>,
    shards: Names,
    /// The shard of the previous tensor: neighbours mostly share one.
    last: Option<u32>,
    bad: Vec<BadShardName>,
    pub(super) weight_map: bool,
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) total_size: Option<u64>,
    pub(super) fault: Option<IndexError>,
}

impl<'l> Draft<'l> {
    pub(super) fn new(file_len: usize, limits: &'l Limits) -> Result<Self, IndexError> {
        let mut names = Names::default();
        // All names together are shorter than the file, so the string never grows.
        let text = names.text.try_reserve_exact(file_len);
        text.map_err(|_| IndexError::NoMemory)?;
        Ok(Self {
            limits,
            names,
            shard_of: Vec::new(),
            shards: Names::default(),
            last: None,
            bad: Vec::new(),
            weight_map: false,
            metadata: None,
            total_size: None,
            fault: None,
        })
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<(), IndexError> {
        within(
            "tensors",
            self.names.len() as u64 + 1,
            self.limits.tensors as u64,
        )?;
        self.name_bytes(name)?;
        self.names.push(name)
    }

    pub(super) fn shard(&mut self, name: &str) -> Result<(), IndexError> {
        let shard = match self.last {
            Some(last) if self.shards.get(last as usize) == name => last,
            _ => self.find_shard(name)?,
        };
        self.last = Some(shard);
        let room = self.shard_of.try_reserve(1);
        room.map_err(|_| IndexError::NoMemory)?;
        self.shard_of.push(shard);
        Ok(())
    }

    fn find_shard(&mut self, name: &str) -> Result<u32, IndexError> {
        self.name_bytes(name)?;
        self.shards.push(name)?;
        let position = match self.shards.index_last()? {
            Some(known) => {
                self.shards.pop();
                known
            }
            None => {
                let count = self.shards.len();
                within(SHARDS, count as u64, Index::MAX_SHARDS as u64)?;
                if let Err(fault) = shard_name::check(name) {
                    let name = name.to_owned();
                    self.bad.push(BadShardName { name, fault });
                }
                count - 1
            }
        };
        // At most `MAX_SHARDS`.
        Ok(position as u32)
    }

    fn name_bytes(&self, name: &str) -> Result<(), IndexError> {
        within(
            "bytes of a name",
            name.len() as u64,
            self.limits.name_bytes as u64,
        )
    }

    pub(super) fn finish(mut self) -> Result<Index, IndexError> {
        if !self.weight_map {
            return Err(IndexError::NoWeightMap);
        }
        if self.names.len() == 0 {
            return Err(IndexError::NoTensors);
        }
        if !self.bad.is_empty() {
            return Err(IndexError::ShardNames(self.bad));
        }
        self.names.text.shrink_to_fit();
        let repeated = self.names.index_all()?;
        if !repeated.is_empty() {
            let names = repeated.into_iter().map(|p| self.names.get(p).to_owned());
            return Err(IndexError::DuplicateNames(names.collect()));
        }
        let shards = (0..self.shards.len()).map(|p| self.shards.get(p).into());
        Ok(Index {
            shards: shards.collect(),
            names: self.names,
            shard_of: self.shard_of,
            total_size: self.total_size,
            metadata: self.metadata.unwrap_or_default(),
        })
    }

    /// Stores an error for [`parse`](super::parse), since errors of serde carry only text.
    pub(super) fn keep<E: serde::de::Error>(
        &mut self,
        result: Result<(), IndexError>,
    ) -> Result<(), E> {
        result.map_err(|fault| {
            self.fault = Some(fault);
            E::custom("refused")
        })
    }
}

pub(super) fn within(what: &'static str, found: u64, limit: u64) -> Result<(), IndexError> {
    if found > limit {
        return Err(IndexError::LimitExceeded { what, limit, found });
    }
    Ok(())
}
