//! Events: a count of what was recorded and of what the streams came to.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(crate) struct Event {
    tickets: Mutex<Tickets>,
    moved: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Tickets {
    recorded: u64,
    reached: u64,
}

impl Event {
    /// A new record of the event; the stream that comes to it [reaches](Self::reach) it.
    pub(crate) fn record(&self) -> u64 {
        let mut tickets = self.lock();
        tickets.recorded += 1;
        tickets.recorded
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.lock().recorded
    }

    pub(crate) fn reach(&self, ticket: u64) {
        let mut tickets = self.lock();
        tickets.reached = tickets.reached.max(ticket);
        self.moved.notify_all();
    }

    pub(crate) fn is_complete(&self) -> bool {
        let tickets = self.lock();
        tickets.reached >= tickets.recorded
    }

    pub(crate) fn wait(&self, ticket: u64) {
        let mut tickets = self.lock();
        while tickets.reached < ticket {
            tickets = self
                .moved
                .wait(tickets)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
