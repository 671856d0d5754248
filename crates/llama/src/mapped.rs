//! A model that llama.cpp maps itself, which only baselines are. A page of it that cannot be
//! read, because the file was cut or its drive failed, is no error that a call returns: the
//! system sends SIGBUS to the thread that touched it. This turns it into a sentence and an
//! exit status.

use std::ffi::{c_int, c_void};
use std::sync::Once;

const WORDS: &[u8] = b"error: a page of the model that llama.cpp has mapped cannot be read: its \
file was cut or replaced while it was open, or its drive failed. Fetch the model again or check the \
drive; without the baseline such a read is an error of one lap\n";

/// From now on SIGBUS ends the process in words, with status 1.
pub fn end_in_words() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeros are a valid `sigaction`, whose mask is then filled in; the handler
        // has the signature that `SA_SIGINFO` wants. Where the system refuses, the signal ends
        // the process as before.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ended as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    });
}

extern "C" fn ended(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: both calls may be made in a handler of a signal, and the bytes are a constant. No
    // destructor runs: the thread was interrupted anywhere.
    unsafe {
        libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
        libc::_exit(1)
    }
}
