//! `/debug/pprof/*`. (skeleton)

#[cfg(feature = "viewer")]
pub mod api;
#[cfg(feature = "viewer")]
pub mod assets;
