//! What a row of the viewer shows in a window, bounded by pixels. (skeleton)
