//! Builds: what may become of one, and which cell can make it.
