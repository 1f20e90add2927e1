//! Who waited, and who made them wait. (skeleton)
