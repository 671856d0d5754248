//! The live picture's events: what the machine is doing, for whoever looks.
