//! Loads models into llama.cpp; above all without bytes: metadata and tensors exist, the
//! weights are address space that faults when touched. Knows nothing of feeding.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use crate::log;
use crate::mapped;
use crate::sys;
use delayline_engine::{Error, Load, ModelFile};

/// llama.cpp logs this text after it has read all headers and before it maps weights.
const HEADERS_READ: &str = "loaded meta data with";

/// A loaded model; freed on drop.
#[derive(Debug)]
pub struct Model {
    ptr: NonNull<sys::llama_model>,
    arch: String,
}

// SAFETY: a model may be freed on any thread. All uses of its pointer are `unsafe` blocks
// with arguments of their own: the vocabulary is only read, weights are touched only by the
// one context that computes.
unsafe impl Send for Model {}
// SAFETY: as above; `&Model` gives nothing but the pointer.
unsafe impl Sync for Model {}

impl Model {
    /// llama.cpp's name of its architecture.
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// For llama.cpp's functions; valid as long as `self`.
    pub fn as_ptr(&self) -> *mut sys::llama_model {
        self.ptr.as_ptr()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the pointer came from llama.cpp's loader and is freed once;
        // contexts hold an `Arc` of the model, so none outlives it.
        unsafe { sys::llama_model_free(self.ptr.as_ptr()) }
    }
}

/// Loads `file` in the given way.
///
/// # Errors
/// When llama.cpp refuses the model, or did not keep the order of events that
/// loading without bytes relies on.
pub fn load(file: &ModelFile, how: Load) -> Result<Arc<Model>, Error> {
    log::init();
    match how {
        Load::Empty => load_empty(file),
        Load::Native | Load::Mmap => {
            if how == Load::Mmap {
                mapped::end_in_words();
            }
            // By descriptor, so that these are the files whose headers were checked.
            let files = file.parts().iter().flat_map(|part| &part.files);
            let paths: Vec<CString> = files.map(|part| path_of(&part.file)).collect();
            load_paths(&paths, how, &file.facts().architecture)
        }
    }
}

fn load_empty(file: &ModelFile) -> Result<Arc<Model>, Error> {
    let mut shells = Vec::new();
    for part in file.parts() {
        shells.push(shell(&part.header, part.len).map_err(|error| refused(error, part.len))?);
    }
    let paths: Vec<CString> = shells.iter().map(path_of).collect();

    let shells = Rc::new(shells);
    let emptied = Rc::new(std::cell::Cell::new(0_u32));
    let watch = {
        let (shells, emptied) = (shells.clone(), emptied.clone());
        move |line: &str| {
            if line.contains(HEADERS_READ) {
                let all = shells.iter().all(|shell| shell.set_len(0).is_ok());
                emptied.set(emptied.get() + if all { 1 } else { 100 });
            }
        }
    };
    let model = log::watching(watch, || {
        load_paths(&paths, Load::Empty, &file.facts().architecture)
    })?;

    if emptied.get() != 1 {
        return Err(Error::Assumption(
            "the headers were not announced once before mapping".into(),
        ));
    }
    for shell in shells.iter() {
        use std::os::unix::fs::MetadataExt;
        let blocks = shell.metadata().map_err(Error::Memory)?.blocks();
        if blocks != 0 {
            return Err(Error::Assumption(format!(
                "{blocks} blocks were loaded for an empty model"
            )));
        }
    }
    Ok(model)
}

/// Explains a failure to create the shell: the limit on file sizes (`RLIMIT_FSIZE`) also
/// applies to the length of a sparse file in memory.
fn refused(error: std::io::Error, len: u64) -> Error {
    match error.raw_os_error() {
        Some(libc::EFBIG) => Error::Option(format!(
            "the limit on the length of files (ulimit -f) is below the model's {len} bytes: \
             raise it, for llama.cpp is shown a file of that length"
        )),
        _ => Error::Memory(error),
    }
}

/// A path to an open file.
fn path_of(file: &File) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zero byte")
}

/// A file in memory with the header's bytes and the full length, sparse.
fn shell(header: &[u8], len: u64) -> std::io::Result<File> {
    // SAFETY: a plain system call with a NUL-terminated name.
    let fd = unsafe { libc::memfd_create(c"delayline-shell".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(header)?;
    file.set_len(len)?;
    Ok(file)
}

fn load_paths(paths: &[CString], how: Load, arch: &str) -> Result<Arc<Model>, Error> {
    // SAFETY: returns a plain struct by value.
    let mut params = unsafe { sys::llama_model_default_params() };
    params.n_gpu_layers = 0;
    params.lazy_mode = sys::LLAMA_LAZY_MODE_OFF;
    params.use_extra_bufts = how == Load::Native;
    params.load_mode = match how {
        Load::Native => sys::LLAMA_LOAD_MODE_DIRECT_IO,
        Load::Empty | Load::Mmap => sys::LLAMA_LOAD_MODE_MMAP,
    };
    loaded(paths, params, arch)
}

fn loaded(
    paths: &[CString],
    params: sys::llama_model_params,
    arch: &str,
) -> Result<Arc<Model>, Error> {
    let (ptr, complaints) = log::complaints(|| {
        let mut raw: Vec<*const std::ffi::c_char> = paths.iter().map(|p| p.as_ptr()).collect();
        // SAFETY: the strings outlive the call.
        unsafe {
            match raw.as_mut_slice() {
                [one] => sys::llama_model_load_from_file(*one, params),
                many => sys::llama_model_load_from_splits(many.as_mut_ptr(), many.len(), params),
            }
        }
    });
    let what = "load this model";
    let ptr = ptr.map_err(|thrown| thrown.during(what))?;
    let ptr = NonNull::new(ptr).ok_or_else(|| Error::Llama {
        what,
        message: if complaints.is_empty() {
            "it gave no reason".into()
        } else {
            complaints
        },
    })?;
    Ok(Arc::new(Model {
        ptr,
        arch: arch.to_owned(),
    }))
}

/// The vocabulary of a file with these bytes.
#[cfg(test)]
pub(crate) fn vocabulary(file: &[u8]) -> Result<Arc<Model>, Error> {
    log::init();
    let shell = shell(file, file.len() as u64).map_err(Error::Memory)?;
    // SAFETY: returns a plain struct by value.
    let mut params = unsafe { sys::llama_model_default_params() };
    params.vocab_only = true;
    params.n_gpu_layers = 0;
    params.load_mode = sys::LLAMA_LOAD_MODE_MMAP;
    loaded(&[path_of(&shell)], params, "")
}
