//! The trait through which the line reads the time.

/// A clock: real in production, virtual in tests and studies.
pub trait Clock {
    /// Nanoseconds since a fixed moment; monotonic.
    fn now_ns(&self) -> u64;
}

impl<C: Clock + ?Sized> Clock for std::rc::Rc<C> {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }
}
