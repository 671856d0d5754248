//! A medium whose faults come and go while the engine under test runs.

use std::sync::LazyLock;

use delayline_line::Medium;
use delayline_medium::{FaultSwitch, Faults, Faulty};

static SWITCH: LazyLock<FaultSwitch> = LazyLock::new(FaultSwitch::default);

/// For `Options::maker`: without faults until [`switch`] says otherwise.
pub fn switched(inner: Box<dyn Medium>) -> Box<dyn Medium> {
    let faulty = Faulty::new(inner, Faults::default(), 11);
    Box::new(faulty.with_switch(SWITCH.clone()))
}

/// From the next read on, these faults.
pub fn switch(faults: Faults) {
    SWITCH.set(faults);
}

/// Takes back a [`switch`] that no read has seen.
pub fn steady() {
    SWITCH.clear();
}
