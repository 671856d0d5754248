//! Ctrl-C: asked for once, the work in hand stops at the next good place;
//! twice, at once. Knows no command.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell expects of a program that Ctrl-C has ended.
pub const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C only raises the flag that [`asked`] reads; for commands
/// that look at it.
pub fn watch() {
    // Fails only where a handler is set already, which then does the same.
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_CODE.into());
        }
    });
}

/// Whether Ctrl-C was pressed.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// As if Ctrl-C was pressed, where a terminal gives it as a key.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
}

/// Forgets that it was pressed, once what it was meant for has ended.
pub fn forget() {
    ASKED.store(false, Ordering::SeqCst);
}

/// The error of a command that stopped because it was asked to.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}
