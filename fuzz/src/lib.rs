//! What every target does with the bytes of a trace: all that `kymo` does with a file.

use kymo::format::file::File;
use kymo::{analysis, export, format, model, profile};

/// Reads a trace, asks it everything and tells it in every format; and says it as text, which gives the same events
/// back.
///
/// # Panics
/// When kymo does, or when a trace as text is not the trace.
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
    if problems.is_empty() {
        as_text(bytes);
    }
}

fn as_text(bytes: &[u8]) {
    let Ok(file) = File::parse(bytes) else { return };
    let text = format::text::write(&file);
    let again = format::text::parse(&text).expect("kymo reads the text that it has written");
    let file = File::parse(&again).expect("and writes a trace from it");
    assert_eq!(format::text::write(&file), text);
}
