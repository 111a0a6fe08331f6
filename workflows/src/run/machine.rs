//! The states of a run: an event goes in, the new state and what to do about it come out.
