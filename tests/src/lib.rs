//! Starting a real host for a test, and talking to it.
