//! From a mesh to G-code, and back to check it.
