//! Profiles: stacks with weights. (skeleton)
