//! What is in a trace, counted. (skeleton)
