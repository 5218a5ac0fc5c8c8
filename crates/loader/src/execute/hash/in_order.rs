//! Chunks that were read before it was their turn to be hashed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::chain::{Chain, ChainState, Hasher};
use crate::execute::failure::Failure;

/// The most bytes of chunks that wait, of all chains of a load together.
const WINDOW_BYTES: u64 = 64 << 20;

/// What waits for its turn in the chains of one load.
///
/// Nobody waits in a circle: the chunks of a shard are taken in the order of their bytes, so the
/// chunk whose turn it is was taken before those that wait for it, and never waits itself.
#[derive(Default)]
pub(super) struct Backlog {
    /// Locked before a chain is.
    room: Mutex<Room>,
    changed: Condvar,
}

#[derive(Default)]
struct Room {
    used: u64,
    most_used: u64,
    stopped: bool,
}

impl Backlog {
    /// Hashes bytes if it is their turn, and otherwise keeps a copy until it is.
    pub(super) fn add(&self, chain: &Chain, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let len = bytes.len() as u64;
        let mut room = lock(&self.room);
        loop {
            if room.stopped {
                return Err(Failure::Stopped);
            }
            // Unlocked again before it hashes.
            let turn = lock(&chain.state).take_turn(offset);
            if let Some(hasher) = turn {
                drop(room);
                self.hash(chain, hasher, bytes);
                return Ok(());
            }
            if room.used + len <= WINDOW_BYTES {
                break;
            }
            let woken = self.changed.wait(room);
            room = woken.unwrap_or_else(PoisonError::into_inner);
        }
        room.used += len;
        room.most_used = room.most_used.max(room.used);
        drop(room);
        let mut copy = Vec::new();
        let refused = |_| Failure::Memory { needed: len };
        copy.try_reserve_exact(bytes.len()).map_err(refused)?;
        copy.extend_from_slice(bytes);

        // Their turn may have come meanwhile.
        let turn = {
            let mut state = lock(&chain.state);
            let turn = state.take_turn(offset);
            match turn {
                Some(hasher) => Some((hasher, copy)),
                None => {
                    state.waiting.insert(offset, copy);
                    None
                }
            }
        };
        if let Some((hasher, copy)) = turn {
            lock(&self.room).used -= len;
            self.hash(chain, hasher, &copy);
        }
        Ok(())
    }

    /// Hashes the bytes whose turn it is, and all that waits behind them.
    fn hash(&self, chain: &Chain, mut hasher: Hasher, bytes: &[u8]) {
        hasher.update(bytes);
        let mut done = bytes.len() as u64;
        loop {
            let mut room = lock(&self.room);
            let mut state = lock(&chain.state);
            state.next += done;
            let next = state.next;
            let Some(piece) = state.waiting.remove(&next) else {
                state.hasher = Some(hasher);
                self.changed.notify_all();
                return;
            };
            drop(state);
            done = piece.len() as u64;
            // It is counted until it is hashed, or the window would be one piece larger.
            drop(room);
            hasher.update(&piece);
            drop(piece);
            room = lock(&self.room);
            room.used -= done;
            self.changed.notify_all();
        }
    }

    /// Lets nobody wait any more.
    pub(super) fn stop(&self) {
        lock(&self.room).stopped = true;
        self.changed.notify_all();
    }

    /// The most bytes that waited at once.
    pub(super) fn peak_bytes(&self) -> u64 {
        lock(&self.room).most_used
    }
}

impl ChainState {
    /// The hasher, if the bytes at `offset` are the next ones.
    fn take_turn(&mut self, offset: u64) -> Option<Hasher> {
        self.hasher.take_if(|_| self.next == offset)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
