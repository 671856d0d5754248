//! A medium whose faults come and go while the engine under test runs.

use std::sync::Mutex;

use delayline_line::{Caps, Completion, Medium, MediumEvent, Op, Stats};
use delayline_medium::{Faults, Faulty};

/// What it takes on with its next read.
static NEXT: Mutex<Option<Faults>> = Mutex::new(None);

struct Switched(Faulty<Box<dyn Medium>>);

impl Medium for Switched {
    fn caps(&self) -> &Caps {
        self.0.caps()
    }

    fn submit(&mut self, op: Op) {
        if let Some(faults) = NEXT.lock().unwrap().take() {
            self.0.set_faults(faults);
        }
        self.0.submit(op);
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        self.0.poll(wait, done);
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.0.events(out);
    }
}

/// For `Options::maker`: without faults until [`switch`] says otherwise.
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
