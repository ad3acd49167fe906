//! PostgreSQL, Redis and RabbitMQ for the tests: those that listen on their usual ports, and private ones; and private
//! registries of images.
//!
//! Used by `cargo xtask` for a whole run and by single promises that stop and kill a server. It must never touch a server
//! that it has not started itself, beyond making a database of its own in it.

mod find;
mod private;
mod programs;

pub use find::{Found, find};
pub use private::{Private, free_ports};
pub use programs::{find_program, is_root};

/// The version of the mail server `aiosmtpd`, which is installed from PyPI.
pub const AIOSMTPD: &str = "1.4.6";

/// One kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Redis,
    Rabbit,
    /// A registry of images, which nothing stands on: only what is deployed may come from there.
    Registry,
}

impl Kind {
    /// Those that a host can stand on.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Redis, Self::Rabbit];

    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Rabbit => "RabbitMQ",
            Self::Registry => "a registry",
        }
    }

    /// The variable by which the rooms' conformance suites and the promises find it.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "BERTH_TEST_POSTGRES_URL",
            Self::Redis => "BERTH_TEST_REDIS_URL",
            Self::Rabbit => "BERTH_TEST_AMQP_URL",
            Self::Registry => "BERTH_TEST_REGISTRY_URL",
        }
    }

    /// The program whose presence means that a private one can be started.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis-server",
            Self::Rabbit => "rabbitmq-server",
            Self::Registry => "docker-registry",
        }
    }

    /// The Debian package.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::Rabbit => "rabbitmq-server",
            Self::Registry => "docker-registry",
        }
    }

    /// What is sent to see whether one is there, and how its answer begins.
    const fn greeting(self) -> (&'static [u8], &'static [u8]) {
        match self {
            // The request for TLS: a server without it answers `N`, one with it `S`.
            Self::Postgres => (&[0, 0, 0, 8, 4, 210, 22, 47], b"N"),
            Self::Redis => (b"PING\r\n", b"+PONG"),
            // The protocol header is answered by a method frame on channel 0.
            Self::Registry => (b"GET /v2/ HTTP/1.0\r\n\r\n", b"HTTP/1."),
            Self::Rabbit => (b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"),
        }
    }
}
