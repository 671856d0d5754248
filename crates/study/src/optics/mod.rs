//! The physics of a fiber loop: pure functions of quantities with units in their names; each
//! formula names its source. No data sheets and no prices.

pub mod amplifier;
pub mod bands;
pub mod comb;
pub mod error;
pub mod fiber;
pub mod gn;
pub mod lap;
pub mod launch;
pub mod link;
pub mod modulation;
pub mod noise;
pub mod raman;
pub mod units;

pub use error::Error;
