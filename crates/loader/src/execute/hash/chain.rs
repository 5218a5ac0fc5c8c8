//! Hash functions that need their bytes in order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::hash::{Digest, HashAlgorithm};

/// The hash of `len` bytes, as far as it is computed.
pub(super) struct Chain {
    pub(super) len: u64,
    pub(super) state: Mutex<ChainState>,
}

/// Guarded by the lock of the backlog, whose waiters wait for it to change.
pub(super) struct ChainState {
    /// The first byte that is not hashed yet.
    pub(super) next: u64,
    /// Absent while a thread hashes.
    pub(super) hasher: Option<Hasher>,
    /// What was read before its turn, by its first byte.
    pub(super) waiting: BTreeMap<u64, Vec<u8>>,
}

pub(super) enum Hasher {
    Sha256(Sha256),
    GitSha1(Sha1),
}

impl Chain {
    pub(super) fn new(algorithm: HashAlgorithm, len: u64) -> Self {
        Self {
            len,
            state: Mutex::new(ChainState {
                next: 0,
                hasher: Some(Hasher::new(algorithm, len)),
                waiting: BTreeMap::new(),
            }),
        }
    }

    /// The hash, if every byte was hashed.
    pub(super) fn finish(self) -> Option<Digest> {
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(std::sync::PoisonError::into_inner);
        let hasher = state.hasher.filter(|_| state.next == self.len)?;
        hasher.finish()
    }
}

impl Hasher {
    fn new(algorithm: HashAlgorithm, len: u64) -> Self {
        match algorithm {
            HashAlgorithm::GitSha1 => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {len}\0"));
                Hasher::GitSha1(hasher)
            }
            _ => Hasher::Sha256(Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::GitSha1(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Option<Digest> {
        match self {
            Hasher::Sha256(hasher) => Digest::new(HashAlgorithm::Sha256, &hasher.finalize()),
            Hasher::GitSha1(hasher) => Digest::new(HashAlgorithm::GitSha1, &hasher.finalize()),
        }
    }
}
