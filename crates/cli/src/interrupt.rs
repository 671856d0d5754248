//! Ctrl-C, SIGTERM and SIGHUP: the first stops the work at the next good place; the second,
//! or one before there is work, ends the process at once. Knows no command.
//!
//! "At once" is `_exit`: no destructor runs, because one may wait for a drive that does not
//! answer. A SIGHUP that was ignored when the program started, as under `nohup`, stays
//! ignored. The others are always heard: in the background of a script a shell has Ctrl-C
//! ignored, but `kill -INT` is still meant to work.

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

/// The exit status that a shell expects of a program that Ctrl-C has ended.
pub const EXIT_CODE: u8 = 130;

/// Called before the process ends at once.
type LastCall = Box<dyn FnOnce() + Send>;

struct State {
    /// Whether there is work that stops at a good place.
    works: bool,
    asked: bool,
    last: Option<LastCall>,
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

/// Makes writes beyond the limit on the length of files fail with an error, which would
/// otherwise end the process by SIGXFSZ.
pub fn let_writes_fail() {
    // Without the handler the signal ends the process as before.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Unblocks the signals that the parent process has blocked in its threads ([`watch_start`]),
/// which a child inherits.
pub fn as_a_child() {
    let _ = kinds().thread_unblock();
}

/// From now on, until [`watch`], a signal ends the process at once: nothing can be lost yet.
pub fn watch_start() {
    let mut listener = listener();
    if listener.is_none() {
        *listener = listen();
    }
}

/// Replaces the thread that hears signals by one that this thread starts, and that so is
/// confined as this one.
pub fn watch_confined() {
    let mut listener = listener();
    // The new one is started before the old one ends, so that no signal is missed.
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

/// Starts the thread that hears signals. None where the system refuses: signals then end
/// the process, as they do by default.
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
    // The system delivers a signal to any thread that does not block it, even to one that
    // waits for a drive and will see it only when the drive answers. So this thread, and
    // those that it will start, block them.
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

/// Whether a thread stays in a state in which no signal reaches it (`D` in `proc(5)`). A
/// thread that reads or touches memory is in it for moments only, and has switched context
/// in between.
fn waits_for_a_drive() -> bool {
    let before = in_system();
    if before.is_empty() {
        return false;
    }
    std::thread::sleep(Duration::from_millis(250));
    before.intersection(&in_system()).next().is_some()
}

/// The threads in that state, each with its context switches so far.
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

/// Sets what is called before a second signal ends the process.
pub fn before_the_end(call: impl FnOnce() + Send + 'static) {
    state().last = Some(Box::new(call));
}

/// Whether Ctrl-C was pressed.
pub fn asked() -> bool {
    state().asked
}

/// Waits for Ctrl-C, at most this long; whether it was pressed, now or before.
pub fn wait(time: Duration) -> bool {
    let waited = NEWS.wait_timeout_while(state(), time, |state| !state.asked);
    waited.unwrap_or_else(PoisonError::into_inner).0.asked
}

/// Acts as if Ctrl-C was pressed, where a terminal delivers it as a key.
pub fn ask() {
    state().asked = true;
    NEWS.notify_all();
}

/// Forgets that Ctrl-C was pressed, once the work that it stopped has ended.
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
