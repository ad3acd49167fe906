//! The Model Context Protocol as both sides of this service speak it: revisions, message shapes, codes. It knows nothing of
//! Berth.

pub mod events;
pub mod headers;
pub mod message;
pub mod redact;

/// The revisions that begin with `initialize`, the newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The first of them.
pub const OLDEST: &str = "2024-11-05";
/// The revision without handshake and sessions.
pub const MODERN: &str = "2026-07-28";
/// What a request without the header speaks, when it says nothing else.
pub const UNNAMED: &str = "2025-03-26";

/// Members of `_meta` in which a modern request says what a handshake said before.
pub mod meta {
    /// The revision.
    pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// What the client can do.
    pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Who the client is.
    pub const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
    /// Who the server is.
    pub const SERVER: &str = "io.modelcontextprotocol/serverInfo";
    /// From which severity on log messages are wanted.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// The request that opened the stream a notification comes on.
    pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
}

/// Codes of errors.
pub mod code {
    /// Not JSON.
    pub const PARSE: i64 = -32_700;
    /// JSON, but no message.
    pub const INVALID_REQUEST: i64 = -32_600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32_601;
    /// The parameters do not fit.
    pub const INVALID_PARAMS: i64 = -32_602;
    /// The server failed.
    pub const INTERNAL: i64 = -32_603;
    /// No such resource, up to 2025-11-25.
    pub const RESOURCE_NOT_FOUND: i64 = -32_002;
    /// A header says something else than the body.
    pub const HEADER_MISMATCH: i64 = -32_020;
    /// The client cannot do what the request needs.
    pub const MISSING_CAPABILITY: i64 = -32_021;
    /// A revision that is not spoken.
    pub const UNSUPPORTED_VERSION: i64 = -32_022;
}

/// The severities of log messages, the mildest first.
pub const LOG_LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How severe a level is; none for a word that is no level.
pub fn severity(level: &str) -> Option<usize> {
    LOG_LEVELS.iter().position(|known| *known == level)
}

/// Every revision that is spoken, the newest first.
pub fn revisions() -> Vec<&'static str> {
    std::iter::once(MODERN).chain(LEGACY).collect()
}

/// The revision that a handshake agrees on: the one asked for where it is spoken, otherwise the newest with a handshake.
///
/// ```
/// use mcp_server::protocol::agreed;
/// assert_eq!(agreed("2025-06-18"), "2025-06-18");
/// assert_eq!(agreed("1999-01-01"), "2025-11-25");
/// ```
pub fn agreed(wanted: &str) -> &'static str {
    LEGACY.into_iter().find(|known| *known == wanted).unwrap_or(LEGACY[0])
}
