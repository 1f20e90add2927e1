//! What is on, what is off and why, what was lost. (skeleton)
