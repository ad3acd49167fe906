//! Takes the API browser into the host where `cargo xtask build` has fetched it; without, `/docs` answers 501.

use std::path::Path;

/// What `/docs` serves.
const FILES: [(&str, &str); 2] = [("SCRIPT", "swagger-ui-bundle.js"), ("STYLE", "swagger-ui.css")];

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/api-browser");
    let stamp = folder.join("version");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", stamp.display());
    let mut code = String::new();
    for (name, file) in FILES {
        let path = folder.join(file);
        let value = if stamp.is_file() && path.is_file() {
            format!("Some(include_bytes!({:?}))", path.display().to_string())
        } else {
            "None".to_owned()
        };
        code.push_str(&format!("pub(super) const {name}: Option<&[u8]> = {value};\n"));
    }
    let out = std::env::var_os("OUT_DIR").unwrap_or_default();
    std::fs::write(Path::new(&out).join("api_browser.rs"), code)
}
