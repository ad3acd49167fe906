//! The components that `cargo xtask build` left, and variants of them.

use std::path::PathBuf;

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The target folder.
#[must_use]
pub fn target() -> PathBuf {
    let release = host_binary().parent().map(std::path::Path::to_path_buf);
    release
        .and_then(|release| release.parent().map(std::path::Path::to_path_buf))
        .unwrap_or_else(|| root().join("target"))
}

fn folder(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from)
}

/// The host.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn host_binary() -> PathBuf {
    built(folder("BERTH_TEST_HOST", "target/release/berth"))
}

/// The component of a plugin.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    built(folder("BERTH_TEST_PLUGINS", "target/plugins").join(format!("{name}.wasm")))
}

/// The manifest with every service.
#[must_use]
pub fn manifest() -> PathBuf {
    folder("BERTH_TEST_MANIFEST", "plugins.toml")
}

/// A guest that exists for tests only.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    built(folder("BERTH_TEST_FIXTURES", "target/fixtures").join(format!("{name}.wasm")))
}

fn built(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `cargo xtask build`", path.display());
    path.canonicalize().unwrap_or(path)
}

/// Bytes of a component.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn bytes(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Another build of the same component: it behaves the same and has another digest.
///
/// A custom section at the end changes nothing but the bytes.
#[must_use]
pub fn variant(component: &[u8], number: u32) -> Vec<u8> {
    let name = b"build";
    let payload = number.to_le_bytes();
    let size = 1 + name.len() + payload.len();
    let mut bytes = component.to_vec();
    // Section 0, its size, the length of its name; each below 128 and so one byte.
    bytes.extend([0, u8::try_from(size).unwrap_or(0), u8::try_from(name.len()).unwrap_or(0)]);
    bytes.extend(name);
    bytes.extend(payload);
    bytes
}
