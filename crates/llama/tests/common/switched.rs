//! A medium whose faults come and go while the engine under test runs.

use std::sync::Mutex;

use delayline_line::{Completion, Medium, Read};
use delayline_medium::{Faults, Faulty};

/// What it takes on with its next read.
static NEXT: Mutex<Option<Faults>> = Mutex::new(None);

struct Switched(Faulty<Box<dyn Medium>>);

impl Medium for Switched {
    fn depth(&self) -> usize {
        self.0.depth()
    }

    fn submit(&mut self, read: Read) {
        if let Some(faults) = NEXT.lock().unwrap().take() {
            self.0.set_faults(faults);
        }
        self.0.submit(read);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.0.poll(wait, done);
    }
}

/// For `Options::around`: without faults until [`switch`] says otherwise.
pub fn switched(inner: Box<dyn Medium>) -> Box<dyn Medium> {
    Box::new(Switched(Faulty::new(inner, Faults::default(), 11)))
}

/// From the next read on, these faults.
pub fn switch(faults: Faults) {
    *NEXT.lock().unwrap() = Some(faults);
}

/// Takes back a [`switch`] that no read has seen.
pub fn steady() {
    *NEXT.lock().unwrap() = None;
}
