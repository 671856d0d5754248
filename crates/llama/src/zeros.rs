//! Address space that reads as zeros and takes no memory, for nodes whose results are
//! discarded.

use std::ffi::c_void;

/// A private read-only mapping, backed by the kernel's shared zero page.
#[derive(Debug)]
pub struct Zeros {
    ptr: *mut c_void,
    len: usize,
}

impl Zeros {
    /// `len` bytes of zeros.
    ///
    /// # Errors
    /// When the system refuses the address space.
    pub fn new(len: usize) -> std::io::Result<Self> {
        let len = len.max(4096);
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // With huge pages, reads would allocate a zero page of 2 MiB.
        // SAFETY: advice on our own mapping.
        unsafe { libc::madvise(ptr, len, libc::MADV_NOHUGEPAGE) };
        Ok(Self { ptr, len })
    }

    /// The first byte.
    pub fn ptr(&self) -> *mut c_void {
        self.ptr
    }
}

impl Drop for Zeros {
    fn drop(&mut self) {
        // SAFETY: our own mapping, unmapped once; tensors that pointed here
        // got their own addresses back when their lap ended.
        unsafe { libc::munmap(self.ptr, self.len) };
    }
}
