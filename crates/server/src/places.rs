//! The limit of connections. When all places are taken, a new connection gets the place of
//! an old one, which is closed: first of those that have not sent a request's head, then of
//! those that are sending a body, then of those that receive a page; among these the one
//! that has been in its stage longest. A connection that waits for an answer keeps its
//! place. Knows no sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a connection is doing; lower stages lose their places first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Idle, or sending a head.
    Head,
    /// Sending a body.
    Body,
    /// Receiving something that needs no computing.
    Page,
    /// Waiting for its answer, or receiving it.
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
    /// Number of changes so far, which serves as a clock.
    now: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    stage: Stage,
    since: u64,
    given_away: Arc<Notify>,
}

/// A connection's place, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
    given_away: Arc<Notify>,
}

impl Places {
    /// At most `most` places, but at least one.
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

    /// A place for a new connection, perhaps taken from another; none if all others wait for
    /// their answers.
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

    /// Waits for a place.
    pub async fn enter_when_free(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.enter() {
                return place;
            }
            freed.await;
        }
    }

    /// Number of places taken.
    pub fn taken(&self) -> usize {
        self.lock().taken.len()
    }

    /// Waits until no place is taken.
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
    /// Records that the connection enters a stage.
    pub fn enter_stage(&self, stage: Stage) {
        let mut inner = self.places.lock();
        inner.now += 1;
        let now = inner.now;
        if let Some(taken) = inner.taken.get_mut(&self.id) {
            (taken.stage, taken.since) = (stage, now);
        }
        drop(inner);
        // A connection that waits for a place can take this one.
        if stage < Stage::Answer {
            self.places.freed.notify_one();
        }
    }

    /// Waits until the place has been given to another connection.
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
            all[place].enter_stage(stage);
        }
        // They lose their places in this order if those who enter wait for answers.
        for gone in [0, 2, 1] {
            let next = places.enter().expect("a place");
            next.enter_stage(Stage::Answer);
            assert!(!ids(&places).contains(&all[gone].id), "{gone}");
            assert_eq!(places.taken(), 4);
            std::mem::forget(next);
        }
        assert!(places.enter().is_none(), "all wait for their answers");
        // A connection that has lost its place frees none when it ends.
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
