//! The bounded FIFO queue of requests that wait for the engine. Knows nothing of what is done
//! with them.

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

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full.
    Full,
    /// The queue is closed.
    Closed,
}

impl<T> Queue<T> {
    /// A queue of at most `most` requests.
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
        // No code that holds the lock panics, so that its poisoning means nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends requests, all or none.
    ///
    /// # Errors
    /// When there is no room for all, or the queue is closed.
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

    /// Removes the first request.
    pub fn pop(&self) -> Option<T> {
        self.lock().waiting.pop_front()
    }

    /// Puts a request back in front.
    pub fn put_back(&self, request: T) {
        self.lock().waiting.push_front(request);
    }

    /// Drops the requests that are not `wanted`.
    pub fn retain(&self, wanted: impl FnMut(&T) -> bool) {
        self.lock().waiting.retain(wanted);
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the queue: further requests are refused.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.poked = true;
        drop(inner);
        self.news.notify_all();
    }

    /// Wakes the thread in [`Queue::wait`].
    pub fn poke(&self) {
        self.lock().poked = true;
        self.news.notify_all();
    }

    /// Waits for at most `time`, until there are more than `known` requests or the queue is
    /// closed or poked. Being closed or poked before the call counts as well, once.
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
        // A request that was queued before ends the wait, too, unless it is known.
        let queue = Queue::new(1);
        queue.push(vec![1]).expect("room");
        queue.wait(0, Duration::from_secs(3600));
        queue.wait(1, Duration::ZERO);
        assert_eq!(queue.pop(), Some(1));
    }
}
