//! Requests that wait for the engine: a bounded queue, first come, first served.
//! Knows nothing of what is done with them.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue between the clients' tasks and the one thread that computes.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    news: Condvar,
    most: usize,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: VecDeque<T>,
    closed: bool,
    poked: bool,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So many wait already.
    Full,
    /// No more are taken.
    Closed,
}

impl<T> Queue<T> {
    /// Room for `most`.
    pub fn new(most: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: VecDeque::with_capacity(most.min(1024)),
                closed: false,
                poked: false,
            }),
            news: Condvar::new(),
            most,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts requests at the end, all or none.
    ///
    /// # Errors
    /// When they are not taken.
    pub fn push(&self, requests: Vec<T>) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Refused::Closed);
        }
        if inner.waiting.len() + requests.len() > self.most {
            return Err(Refused::Full);
        }
        inner.waiting.extend(requests);
        self.news.notify_one();
        Ok(())
    }

    /// The first one, if there is any.
    pub fn pop(&self) -> Option<T> {
        self.lock().waiting.pop_front()
    }

    /// Puts back what was popped, in front.
    pub fn put_back(&self, request: T) {
        self.lock().waiting.push_front(request);
    }

    /// Drops those that are not wanted any more.
    pub fn retain(&self, wanted: impl FnMut(&T) -> bool) {
        self.lock().waiting.retain(wanted);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more from now on.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.poked = true;
        drop(inner);
        self.news.notify_all();
    }

    /// Wakes the thread that waits.
    pub fn poke(&self) {
        self.lock().poked = true;
        self.news.notify_all();
    }

    /// Waits until there are more requests than the `known` ones, the queue is
    /// closed or poked (also before), or the time is over.
    pub fn wait(&self, known: usize, time: Duration) {
        let inner = self.lock();
        let idle = |inner: &mut Inner<T>| {
            inner.waiting.len() <= known && !std::mem::take(&mut inner.poked)
        };
        let waited = self.news.wait_timeout_while(inner, time, idle);
        drop(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_in_order() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(vec![1, 2, 3]), Err(Refused::Full));
        assert_eq!(queue.push(vec![1, 2]), Ok(()));
        assert_eq!(queue.push(vec![3]), Err(Refused::Full));
        assert_eq!(queue.pop(), Some(1));
        queue.put_back(1);
        assert_eq!((queue.pop(), queue.len()), (Some(1), 1));
        queue.retain(|&x| x != 2);
        assert!(queue.is_empty());
        queue.close();
        assert_eq!(queue.push(vec![4]), Err(Refused::Closed));
    }

    #[test]
    fn news_end_a_wait() {
        let queue = Queue::new(1);
        for news in [
            Queue::<u8>::poke,
            |queue: &Queue<u8>| queue.push(vec![1]).expect("room"),
            Queue::close,
        ] {
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| queue.wait(0, Duration::from_secs(3600)));
                news(&queue);
                waiting.join().expect("it ends");
            });
        }
        // Who came in before the wait is news as well, unless already known.
        let queue = Queue::new(1);
        queue.push(vec![1]).expect("room");
        queue.wait(0, Duration::from_secs(3600));
        queue.wait(1, Duration::ZERO);
        assert_eq!(queue.pop(), Some(1));
    }
}
