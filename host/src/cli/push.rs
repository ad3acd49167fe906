//! `push`: a component into a registry, from where `deploy oci://…` takes it, and every other tool of the same format.

use chrono::{SecondsFormat, Utc};
use serde_json::json;
use wasmparser::{Parser, Payload};

use super::source::{Image, Sha256Digest, read_local};
use super::{CommandError, output};

/// What a component is called that came over standard input.
const UNNAMED: &str = "component.wasm";

#[derive(Debug, clap::Args)]
pub(super) struct PushArguments {
    /// Where to, as oci://registry/name:tag
    reference: String,
    /// The component: a file, or - for standard input
    file: String,
}

/// Pushes, and says the reference with the digest of what is there now, on standard output and alone, for scripts.
pub(super) async fn push(arguments: PushArguments) -> Result<(), CommandError> {
    let PushArguments { reference, file } = arguments;
    let Some(name) = reference.strip_prefix("oci://") else {
        return Err(CommandError::usage(format!("{reference} is no place to push to, as oci://registry/name:tag")));
    };
    let component = read_local(&file)?.bytes;
    let Names { imports, exports } = Names::read(&component)
        .ok_or_else(|| CommandError::failed(format!("{file} is not a WebAssembly component")))?;
    let config = json!({
        "created": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [Sha256Digest::of(&component).to_string()],
        "component": { "imports": imports, "exports": exports },
    });
    let image = Image::named(name)?;
    output::progress(&format!("pushing {}", output::size(component.len() as u64)));
    let title = std::path::Path::new(&file).file_name().filter(|_| file != "-");
    let title = title.map_or_else(|| UNNAMED.into(), |name| name.to_string_lossy());
    let pinned = image.push(component, config.to_string().into_bytes(), &title).await?;
    output::say(&pinned);
    Ok(())
}

/// What a component imports and exports, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Names {
    /// None for what is no component. Whether it is a sound one is for the host to say.
    fn read(component: &[u8]) -> Option<Self> {
        if !Parser::is_component(component) {
            return None;
        }
        let mut names = Self::default();
        // Modules and components inside have sections of their own.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        names.imports.push(import.ok()?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        names.exports.push(export.ok()?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component's head, an inner component that imports `inner`, and the import of a function `outer`.
    fn component() -> Vec<u8> {
        let head = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
        // A type section with one function without parameters or results, then one import of it.
        let importing = |name: &str| {
            let mut section = vec![0x07, 0x05, 0x01, 0x40, 0x00, 0x01, 0x00];
            let length = u8::try_from(name.len()).unwrap();
            section.extend([0x0a, length + 5, 0x01, 0x00, length]);
            section.extend(name.as_bytes());
            section.extend([0x01, 0x00]);
            section
        };
        let inner = [&head[..], &importing("inner")].concat();
        let mut bytes = [&head[..], &[0x04, u8::try_from(inner.len()).unwrap()], &inner].concat();
        bytes.extend(importing("outer"));
        bytes
    }

    #[test]
    fn a_component_says_what_it_imports() {
        let names = Names::read(&component()).expect("a component");
        assert_eq!(names, Names { imports: vec!["outer".to_owned()], exports: Vec::new() });
    }

    #[test]
    fn a_module_and_half_a_component_are_none() {
        let whole = component();
        let module = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
        for bytes in [&module[..], b"garbage", b"", &whole[..whole.len() - 3]] {
            assert_eq!(Names::read(bytes), None);
        }
    }
}
