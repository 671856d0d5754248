//! Who may be connected. There are so many places; whoever comes when all are taken
//! gets that of the connection that has said least for longest: one that has not sent
//! its head, then one that is sending its body, then one that takes a page. Who waits
//! for an answer keeps its place. Knows no sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a connection is doing, in the order in which its place is given to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing, or sending a head.
    Head,
    /// Sending a body.
    Body,
    /// Taking what was there already.
    Page,
    /// Waiting for its answer, or taking it.
    Answer,
}

/// The places of a server.
#[derive(Debug)]
pub struct Places {
    most: usize,
    inner: Mutex<Inner>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts all changes.
    now: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    stage: Stage,
    since: u64,
    given_away: Arc<Notify>,
}

/// A connection's place; dropped, it is free.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
    given_away: Arc<Notify>,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            inner: Mutex::default(),
            freed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody who has said nothing yet, perhaps another's; none if all
    /// wait for their answers.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut inner = self.lock();
        inner.now += 1;
        if inner.taken.len() >= self.most {
            let all = inner.taken.iter();
            let least = all.min_by_key(|(_, taken)| (taken.stage, taken.since));
            let (&id, taken) = least.filter(|(_, taken)| taken.stage < Stage::Answer)?;
            taken.given_away.notify_one();
            inner.taken.remove(&id);
        }
        let id = inner.now;
        let given_away = Arc::new(Notify::new());
        let taken = Taken {
            stage: Stage::Head,
            since: id,
            given_away: given_away.clone(),
        };
        inner.taken.insert(id, taken);
        Some(Place {
            places: self.clone(),
            id,
            given_away,
        })
    }

    /// A place for somebody, once there is one.
    pub async fn enter_when_free(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.enter() {
                return place;
            }
            freed.await;
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.lock().taken.len()
    }

    /// Waits until nobody is there.
    pub async fn until_empty(&self) {
        loop {
            let freed = self.freed.notified();
            if self.taken() == 0 {
                return;
            }
            freed.await;
        }
    }
}

impl Place {
    /// The connection does this from now on.
    pub fn is_at(&self, stage: Stage) {
        let mut inner = self.places.lock();
        inner.now += 1;
        let now = inner.now;
        if let Some(taken) = inner.taken.get_mut(&self.id) {
            (taken.stage, taken.since) = (stage, now);
        }
        drop(inner);
        // Who waits for a place may have this one.
        if stage < Stage::Answer {
            self.places.freed.notify_one();
        }
    }

    /// Waits until the place is another's.
    pub async fn until_given_away(&self) {
        self.given_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(places: &Places) -> Vec<u64> {
        places.lock().taken.keys().copied().collect()
    }

    #[test]
    fn who_says_least_for_longest_makes_room() {
        let places = Places::new(4);
        let all: Vec<Place> = (0..4).filter_map(|_| places.enter()).collect();
        for (place, stage) in [
            (2, Stage::Body),
            (0, Stage::Head),
            (1, Stage::Page),
            (3, Stage::Answer),
        ] {
            all[place].is_at(stage);
        }
        // In this order, as long as nobody who enters says more.
        for gone in [0, 2, 1] {
            let next = places.enter().expect("a place");
            next.is_at(Stage::Answer);
            assert!(!ids(&places).contains(&all[gone].id), "{gone}");
            assert_eq!(places.taken(), 4);
            std::mem::forget(next);
        }
        assert!(places.enter().is_none(), "all wait for their answers");
        // One that lost its place frees none by going.
        drop(all);
        assert_eq!(places.taken(), 3);
        assert!(places.enter().is_some());
    }

    #[test]
    fn who_is_new_is_the_last_of_its_kind_to_go() {
        let places = Places::new(3);
        let mut all: Vec<Place> = (0..3).filter_map(|_| places.enter()).collect();
        for _ in 0..50 {
            let oldest = ids(&places)[0];
            all.push(places.enter().expect("a place"));
            assert!(!ids(&places).contains(&oldest));
            assert_eq!(places.taken(), 3);
        }
    }
}
