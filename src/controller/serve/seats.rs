//! A bound on connections: whoever comes gets a seat, where need be that of the one who has sat idle the longest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Connections in all that have shaken hands.
const MOST: usize = 256;
/// Connections in their handshake. Whoever can reach the port takes part in these: the one that has been at it the
/// longest goes for the next, and never one that has shown its certificate.
const MOST_AT_THE_DOOR: usize = 64;
/// Connections of one namespace: each sends one request at a time, and a runner has one.
const MOST_OF_A_NAMESPACE: usize = 16;

/// Who sits, the longest first.
#[derive(Clone)]
pub(super) struct Seats {
    taken: Arc<Mutex<Taken>>,
    most: usize,
}

impl Default for Seats {
    fn default() -> Self {
        Self::of(MOST)
    }
}

#[derive(Default)]
struct Taken {
    next: u64,
    all: Vec<Place>,
}

struct Place {
    id: u64,
    namespace: Option<Arc<str>>,
    busy: Arc<AtomicBool>,
    /// Ends the connection.
    end: Option<AbortHandle>,
}

/// One connection's seat, until it is dropped.
pub(super) struct Seat {
    id: u64,
    seats: Seats,
    busy: Arc<AtomicBool>,
}

/// While it lives, its connection is not ended for another.
pub(super) struct Busy(Arc<AtomicBool>);

impl Seats {
    /// For connections that have not shown their certificate yet.
    pub(super) fn at_the_door() -> Self {
        Self::of(MOST_AT_THE_DOOR)
    }

    fn of(most: usize) -> Self {
        let taken = Arc::default();
        Self { taken, most }
    }

    /// A seat for a new connection, that speaks for this namespace where that is known; none where all others are
    /// busy. A namespace that has its share takes from its own.
    pub(super) fn take(&self, namespace: Option<&Arc<str>>) -> Option<Seat> {
        let mut taken = self.lock();
        let its = |place: &Place| namespace.is_some() && place.namespace.as_ref() == namespace;
        let have = taken.all.iter().filter(|place| its(place)).count();
        if have >= MOST_OF_A_NAMESPACE && !taken.free(its) {
            return None;
        }
        if taken.all.len() >= self.most && !taken.free(|_| true) {
            return None;
        }
        let (id, busy) = (taken.next, Arc::new(AtomicBool::new(false)));
        taken.next += 1;
        taken.all.push(Place {
            id,
            namespace: namespace.cloned(),
            busy: busy.clone(),
            end: None,
        });
        Some(Seat {
            id,
            seats: self.clone(),
            busy,
        })
    }

    /// How the connection on this seat is ended.
    pub(super) fn ends_by(&self, id: u64, end: AbortHandle) {
        let mut taken = self.lock();
        if let Some(place) = taken.all.iter_mut().find(|place| place.id == id) {
            place.end = Some(end);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Ends the oldest idle connection of those; false where there is none.
    fn free(&mut self, of: impl Fn(&Place) -> bool) -> bool {
        let idle = |place: &Place| place.end.is_some() && !place.busy.load(Ordering::Relaxed);
        let Some(at) = self.all.iter().position(|place| idle(place) && of(place)) else {
            return false;
        };
        if let Some(end) = self.all.remove(at).end {
            end.abort();
        }
        true
    }
}

impl Seat {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether a request is being answered.
    pub(super) fn business(&self) -> Business {
        Business(self.busy.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let id = self.id;
        self.seats.lock().all.retain(|place| place.id != id);
    }
}

/// Tells of one seat whether it is busy.
#[derive(Clone)]
pub(super) struct Business(Arc<AtomicBool>);

impl Business {
    pub(super) fn begin(&self) -> Busy {
        self.0.store(true, Ordering::Relaxed);
        Busy(self.0.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that does nothing, and whether it was ended.
    fn connect(seats: &Seats) -> Option<(Seat, tokio::task::JoinHandle<()>)> {
        connect_for(seats, None)
    }

    fn connect_for(
        seats: &Seats,
        namespace: Option<&Arc<str>>,
    ) -> Option<(Seat, tokio::task::JoinHandle<()>)> {
        let seat = seats.take(namespace)?;
        let task = tokio::spawn(std::future::pending());
        seats.ends_by(seat.id(), task.abort_handle());
        Some((seat, task))
    }

    #[tokio::test]
    async fn where_all_seats_are_taken_the_one_idle_the_longest_goes() {
        let seats = Seats::default();
        let mut all: Vec<_> = (0..MOST).filter_map(|_| connect(&seats)).collect();
        assert_eq!(all.len(), MOST);
        let busy = all[0].0.business().begin();
        let new = connect(&seats).expect("there is a seat");
        tokio::task::yield_now().await;
        assert!(!all[0].1.is_finished(), "it was busy");
        assert!(all.remove(1).1.await.unwrap_err().is_cancelled());
        assert!(!new.1.is_finished());
        drop(busy);
        assert_eq!(seats.lock().all.len(), MOST);
        drop((all, new));
        assert!(seats.lock().all.is_empty());
    }

    #[tokio::test]
    async fn those_at_the_door_go_for_each_other() {
        let door = Seats::at_the_door();
        let all: Vec<_> = (0..=MOST_AT_THE_DOOR)
            .filter_map(|_| connect(&door))
            .collect();
        tokio::task::yield_now().await;
        assert!(all[0].1.is_finished() && !all[1].1.is_finished());
        assert_eq!(door.lock().all.len(), MOST_AT_THE_DOOR);
    }

    #[tokio::test]
    async fn where_all_are_busy_nobody_goes() {
        let seats = Seats::default();
        let all: Vec<_> = (0..MOST).filter_map(|_| connect(&seats)).collect();
        let _busy: Vec<_> = all.iter().map(|c| c.0.business().begin()).collect();
        assert!(connect(&seats).is_none());
    }

    #[tokio::test]
    async fn a_namespace_takes_its_own_seats_first() {
        let seats = Seats::default();
        let (here, there): (Arc<str>, Arc<str>) = ("team".into(), "other".into());
        let other = connect_for(&seats, Some(&there)).unwrap();
        let all: Vec<_> = (0..=MOST_OF_A_NAMESPACE)
            .filter_map(|_| connect_for(&seats, Some(&here)))
            .collect();
        tokio::task::yield_now().await;
        assert!(all[0].1.is_finished() && !all[1].1.is_finished());
        assert!(!other.1.is_finished());
    }
}
