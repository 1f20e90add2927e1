//! `/debug/pprof/*`. (skeleton)
