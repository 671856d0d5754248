//! The physics of a fiber loop: what light does on its way round. Pure
//! functions of quantities with units in their names; each formula names its
//! source. Knows neither prices nor models of language.

pub mod lap;
pub mod units;
