//! A trace in other tools' formats, one file a format.

pub mod chrome;
pub mod perfetto;
