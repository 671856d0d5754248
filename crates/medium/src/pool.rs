//! A pool of threads, each in one blocking system call at a time: the fallback where
//! io_uring is refused. It knows files by their index and nothing else.

use crate::Memory;
use crate::direct::{read_once, write_once};
use crate::engine::{Finished, Job};
use delayline_line::Verb;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};

/// The threads, and the two queues between them and their owner.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    finished: Receiver<Finished>,
    threads: Vec<JoinHandle<()>>,
    under_way: usize,
}

struct Shared {
    files: Arc<[File]>,
    memory: Arc<Memory>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl ThreadPool {
    /// Starts `threads` threads.
    pub fn new(files: Arc<[File]>, memory: Arc<Memory>, threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            files,
            memory,
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let (sender, finished) = channel();
        let mut pool = Self {
            shared,
            finished,
            threads: Vec::new(),
            under_way: 0,
        };
        for _ in 0..threads {
            let (shared, sender) = (pool.shared.clone(), sender.clone());
            // They do nothing but wait in the kernel: a small stack is plenty.
            let builder = Builder::new().name("pread".into()).stack_size(64 << 10);
            pool.threads
                .push(builder.spawn(move || shared.work(&sender))?);
        }
        Ok(pool)
    }

    /// Queues an operation.
    pub fn queue(&mut self, job: Job) {
        self.under_way += 1;
        self.shared
            .queue
            .lock()
            .expect("no holder panics")
            .jobs
            .push_back(job);
        self.shared.wake.notify_one();
    }

    /// Appends what is finished, with `wait` at least one unless nothing is
    /// under way.
    pub fn reap(&mut self, wait: bool, out: &mut Vec<Finished>) {
        let before = out.len();
        out.extend(self.finished.try_iter());
        if wait && out.len() == before && self.under_way > 0 {
            out.push(
                self.finished
                    .recv()
                    .expect("the threads live until the pool is dropped"),
            );
        }
        self.under_way -= out.len() - before;
    }
}

impl Shared {
    /// What each thread does until the queue is closed.
    fn work(&self, finished: &Sender<Finished>) {
        while let Some(job) = self.next() {
            let result = self
                .perform(&job)
                .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
            let tag = job.tag;
            if finished.send(Finished { tag, result }).is_err() {
                return;
            }
        }
    }

    fn perform(&self, job: &Job) -> io::Result<u32> {
        let file = &self.files[job.part];
        match job.verb {
            Verb::Read => read_once(file, &self.memory, job.at, job.len, job.offset),
            Verb::Write => write_once(file, &self.memory, job.at, job.len, job.offset),
            Verb::Sync => file.sync_data().map(|()| 0),
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().expect("no holder panics");
        loop {
            if queue.closed {
                return None;
            }
            match queue.jobs.pop_front() {
                Some(job) => return Some(job),
                None => queue = self.wake.wait(queue).expect("no holder panics"),
            }
        }
    }
}

impl Drop for ThreadPool {
    /// Forgets what no thread has begun and waits for the rest.
    fn drop(&mut self) {
        self.shared.queue.lock().expect("no holder panics").closed = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }
}
