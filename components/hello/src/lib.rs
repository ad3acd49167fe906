//! The smallest plugin: it says hello.
