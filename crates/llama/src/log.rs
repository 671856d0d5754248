//! llama.cpp's log: its errors are collected for our error messages, every line goes to
//! `tracing`, and a caller may watch the lines, as loading without bytes does. Also turns
//! ggml's aborts into an error message.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Once, OnceLock};

use crate::sys;

type Watch = Box<dyn FnMut(&str)>;

#[derive(Default)]
struct Tap {
    errors: Vec<String>,
    watch: Option<Watch>,
}

thread_local! {
    static TAP: RefCell<Tap> = RefCell::default();
}

/// Maximum number of llama.cpp's error lines in an error message.
const KEPT_ERRORS: usize = 4;

/// Starts llama.cpp's backends and takes over its log, once a process.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the callbacks are functions of this program and outlive it;
        // the backend is initialised once, before anything else of llama.cpp.
        unsafe {
            sys::llama_log_set(Some(on_log), std::ptr::null_mut());
            sys::ggml_set_abort_callback(Some(on_abort));
            sys::llama_backend_init()
        }
        .expect("memory for llama.cpp's tables");
    });
}

/// Runs `body`; also returns the errors that llama.cpp logged meanwhile on this thread.
pub fn complaints<T>(body: impl FnOnce() -> T) -> (T, String) {
    TAP.with_borrow_mut(|tap| tap.errors.clear());
    let out = body();
    let errors = TAP.with_borrow_mut(|tap| std::mem::take(&mut tap.errors));
    (out, errors.join("; "))
}

/// Runs `body` while `watch` sees each line that llama.cpp logs on this thread.
pub fn watching<T>(watch: impl FnMut(&str) + 'static, body: impl FnOnce() -> T) -> T {
    TAP.with_borrow_mut(|tap| tap.watch = Some(Box::new(watch)));
    let out = body();
    TAP.with_borrow_mut(|tap| tap.watch = None);
    out
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let line = text.trim_end();
    if line.is_empty() {
        return;
    }
    TAP.with_borrow_mut(|tap| {
        if let Some(watch) = tap.watch.as_mut() {
            watch(line);
        }
        // This line ends every failed load and adds nothing.
        let says = !line.ends_with(": failed to load model");
        if level == sys::GGML_LOG_LEVEL_ERROR && says && tap.errors.len() < KEPT_ERRORS {
            tap.errors.push(line.to_owned());
        }
    });
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::debug!(target: "llama", "{line}"),
        _ => tracing::trace!(target: "llama", "{line}"),
    }
}

/// Called before ggml aborts the process. Prints an error as ours are printed and exits
/// with status 1, because an abort could write a core dump of many gigabytes.
unsafe extern "C" fn on_abort(text: *const c_char) {
    let text = match text.is_null() {
        true => "it gave no reason".into(),
        // SAFETY: as in `on_log`.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy(),
    };
    eprintln!(
        "error: llama.cpp stopped on a broken assumption: {}",
        without_folder(text.trim_end())
    );
    // SAFETY: ends the process at once, from any thread, without running destructors,
    // which would meet the state that ggml found to be broken.
    unsafe { libc::_exit(1) }
}

/// Strips the folder of the source file from a text of the form `FILE:LINE: what`.
fn without_folder(text: &str) -> &str {
    let place = text.split(": ").next().unwrap_or_default();
    let folder = place.rfind('/').map_or(0, |at| at + 1);
    &text[folder..]
}

/// What the kernels were built for, in llama.cpp's words (`AVX2 = 1 | …`).
pub fn kernel_features() -> String {
    // Called once: each call writes to the same static string.
    static FEATURES: OnceLock<String> = OnceLock::new();
    let features = FEATURES.get_or_init(|| {
        init();
        // SAFETY: returns a pointer to a static string, which nobody writes to from now on.
        match unsafe { sys::llama_print_system_info() } {
            // SAFETY: it ends with a zero byte.
            Ok(text) => unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned(),
            Err(_) => String::new(),
        }
    });
    features.clone()
}

#[cfg(test)]
mod tests {
    use super::without_folder;

    #[test]
    fn places_lose_their_folder_and_nothing_else() {
        for (text, left) in [
            (
                "/a/b/c.cpp:13: GGML_ASSERT(a / b) failed",
                "c.cpp:13: GGML_ASSERT(a / b) failed",
            ),
            ("c.cpp:13: a/b", "c.cpp:13: a/b"),
            ("fatal", "fatal"),
            ("", ""),
        ] {
            assert_eq!(without_folder(text), left);
        }
    }
}
