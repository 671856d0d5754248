//! The seam to time.

/// Tells the time. Real in production, virtual in tests and studies.
pub trait Clock {
    /// Nanoseconds since some fixed moment; never goes back.
    fn now_ns(&self) -> u64;
}

impl<C: Clock + ?Sized> Clock for std::rc::Rc<C> {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }
}
