//! What every target does with the bytes of a trace: all that `kymo` does with a file.

use kymo::format::file::File;
use kymo::{analysis, export, format, model, profile};

/// Reads a trace, asks it everything and tells it in every format; and says it as text, and reads that.
///
/// # Panics
/// When kymo does: that is what is looked for.
pub fn read(bytes: &[u8]) {
    let Ok((trace, problems)) = model::load::load(bytes) else { return };
    analysis::stat::stat(&trace, &problems);
    analysis::rows::Rows::of(&trace);
    for derive in [profile::block, profile::mutex, profile::heap, profile::allocs] {
        derive(&trace).encode();
    }
    // Neither fails where writing into memory does not.
    let mut out = Vec::new();
    export::perfetto::write(&trace, &mut out).expect("memory takes everything");
    export::chrome::write(&trace, &mut out).expect("memory takes everything");
    let Ok(file) = File::parse(bytes) else { return };
    // Of another version's schema, or with damage, it may be no trace; then it says so.
    let _ = format::text::parse(&format::text::write(&file));
}
