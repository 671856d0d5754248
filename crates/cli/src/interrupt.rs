//! Ctrl-C, SIGTERM and SIGHUP: asked for once, the work in hand stops at the next good
//! place; twice, or before there is any, the process ends at once. Knows no command.
//!
//! "At once" is `_exit`: no destructor runs, because one may wait for a drive that
//! does not answer. A SIGHUP that was ignored when the program started, as under `nohup`,
//! stays ignored. The others are always heard: a shell has what a script puts in the
//! background ignore Ctrl-C, yet `kill -INT` means it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::DirEntry;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

/// What a shell expects of a program that Ctrl-C has ended.
pub const EXIT_CODE: u8 = 130;

/// What is done before the process ends at once.
type LastDeed = Box<dyn FnOnce() + Send>;

struct State {
    /// Whether there is anything that could stop at a good place.
    works: bool,
    asked: bool,
    last: Option<LastDeed>,
}

static STATE: Mutex<State> = Mutex::new(State {
    works: false,
    asked: false,
    last: None,
});
static NEWS: Condvar = Condvar::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Beyond the limit on the length of files a write fails, and is told, instead of
/// ending the process without a word.
pub fn let_writes_fail() {
    // Where it cannot be heard, it ends the process as ever.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// A child has what its parent held back from its threads ([`watch_start`]) come through.
pub fn as_a_child() {
    let _ = kinds().thread_unblock();
}

/// From now on a signal ends the process at once: there is nothing yet that could be
/// lost. Until [`watch`].
pub fn watch_start() {
    let mut listener = listener();
    if listener.is_none() {
        *listener = listen();
    }
}

/// The thread that hears signals is another from now on, started by this one: so it is
/// confined as this one is.
pub fn watch_confined() {
    let mut listener = listener();
    // The new one hears before the old one is deaf.
    let old = std::mem::replace(&mut *listener, listen());
    if let Some((handle, thread)) = old {
        handle.close();
        let _ = thread.join();
    }
}

type Listener = (Handle, JoinHandle<()>);

fn listener() -> MutexGuard<'static, Option<Listener>> {
    static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kinds() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Where the system refuses, signals do what they do anyway: they end the process.
fn listen() -> Option<Listener> {
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let heard = [SIGINT, SIGTERM].into_iter().chain(hangup);
    let mut signals = Signals::new(heard).ok()?;
    let handle = signals.handle();
    let builder = std::thread::Builder::new().name("signals".into());
    let work = move || {
        let _ = kinds().thread_unblock();
        signals.forever().for_each(|_| ask_or_end());
    };
    let thread = builder.spawn(work).ok()?;
    // The system gives a signal to any thread that lets it through, even to one that waits
    // for a drive and will see it when the drive answers. This one and those that it will
    // start let none through.
    let _ = kinds().thread_block();
    Some((handle, thread))
}

/// From now on a signal only raises the flag that [`asked`] reads, and a second one ends
/// the process; for commands that look at it.
pub fn watch() {
    state().works = true;
    watch_start();
}

/// Whether a signal was ignored when the program started (`SigIgn` in `proc(5)`, a bit each).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

fn ask_or_end() {
    let mut state = state();
    if state.works && !state.asked {
        state.asked = true;
        NEWS.notify_all();
        return;
    }
    let last = state.last.take();
    drop(state);
    match last {
        Some(last) => last(),
        None if waits_for_a_drive() => {
            let told =
                b"note: a drive does not answer; the system may hold the process until it does\n";
            let _ = std::io::stderr().write_all(told);
        }
        None => {}
    }
    end(EXIT_CODE);
}

/// Whether a thread stays where no signal reaches it (`D` in `proc(5)`). Whoever reads or
/// touches memory is there for moments, and each time it was elsewhere counts as a switch.
fn waits_for_a_drive() -> bool {
    let before = in_system();
    if before.is_empty() {
        return false;
    }
    std::thread::sleep(Duration::from_millis(250));
    before.intersection(&in_system()).next().is_some()
}

/// The threads that are there, each with its switches so far.
fn in_system() -> BTreeSet<(OsString, String)> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let waits = |task: DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        let waits = value("State:")?.starts_with('D');
        let switches = value("voluntary_ctxt_switches:")?;
        waits.then(|| (task.file_name(), switches.to_owned()))
    };
    tasks.flatten().filter_map(waits).collect()
}

/// Ends the process at once, without destructors.
pub fn end(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

/// What is to be done before a second signal ends the process.
pub fn before_the_end(deed: impl FnOnce() + Send + 'static) {
    state().last = Some(Box::new(deed));
}

/// Whether Ctrl-C was pressed.
pub fn asked() -> bool {
    state().asked
}

/// Waits until Ctrl-C is pressed, or was, but no longer than this; whether it was.
pub fn wait(time: Duration) -> bool {
    let waited = NEWS.wait_timeout_while(state(), time, |state| !state.asked);
    waited.unwrap_or_else(PoisonError::into_inner).0.asked
}

/// As if Ctrl-C was pressed, where a terminal gives it as a key.
pub fn ask() {
    state().asked = true;
    NEWS.notify_all();
}

/// Forgets that it was pressed, once what it was meant for has ended.
pub fn forget() {
    state().asked = false;
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
