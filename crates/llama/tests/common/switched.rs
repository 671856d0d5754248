//! A medium whose faults can be changed while the engine under test runs.

use std::sync::LazyLock;

use delayline_line::Medium;
use delayline_medium::{FaultSwitch, Faults, Faulty};

static SWITCH: LazyLock<FaultSwitch> = LazyLock::new(FaultSwitch::default);

/// For `Options::maker`: without faults until [`switch`] says otherwise.
pub fn switched(inner: Box<dyn Medium>) -> Box<dyn Medium> {
    let faulty = Faulty::new(inner, Faults::default(), 11);
    Box::new(faulty.with_switch(SWITCH.clone()))
}

/// Sets the faults from the next read on.
pub fn switch(faults: Faults) {
    SWITCH.set(faults);
}

/// Undoes a [`switch`] that no read has met.
pub fn steady() {
    SWITCH.clear();
}
