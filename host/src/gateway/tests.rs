//! The whole pipeline over a real socket, with builds that do what a test wants.
