//! The worker's own folder: each execution gets one below it, and no step leaves it.

use std::path::{Component, Path, PathBuf};

use super::super::CommandError;

/// Makes the folder and answers with its real path.
pub(super) fn make_root(folder: &Path) -> Result<PathBuf, CommandError> {
    std::fs::create_dir_all(folder)
        .and_then(|()| folder.canonicalize())
        .map_err(|error| CommandError::failed(format!("the folder {} cannot be used: {error}", folder.display())))
}

/// The folder a step runs in: `<root>/<execution>/<wanted>`, made when it is missing.
///
/// # Errors
/// A sentence, when `wanted` leads out of the execution's folder, also by a symbolic link.
pub(super) fn for_step(root: &Path, execution_id: &str, wanted: Option<&str>) -> Result<PathBuf, String> {
    let is_id =
        !execution_id.is_empty() && execution_id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !is_id {
        return Err("the execution's id cannot name a folder".to_owned());
    }
    let base = root.join(execution_id);
    std::fs::create_dir_all(&base).map_err(|error| format!("the working folder cannot be made: {error}"))?;
    let base = base.canonicalize().map_err(|error| format!("the working folder cannot be used: {error}"))?;
    if !base.starts_with(root) {
        return Err("the execution's folder leads out of the worker's own".to_owned());
    }
    let mut folder = base.clone();
    for component in Path::new(wanted.unwrap_or_default()).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => folder.push(name),
            Component::ParentDir if folder != base => {
                folder.pop();
            }
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("workingDirectory leads out of the execution's folder".to_owned());
            }
        }
        // Step by step: a link on the way must be seen before anything is made behind it.
        if folder.exists() && !folder.canonicalize().is_ok_and(|real| real.starts_with(&base)) {
            return Err("workingDirectory leads out of the execution's folder".to_owned());
        }
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("the working folder cannot be made: {error}"))?;
    let real = folder.canonicalize().map_err(|error| format!("the working folder cannot be used: {error}"))?;
    if real.starts_with(&base) {
        Ok(real)
    } else {
        Err("workingDirectory leads out of the execution's folder".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_leaves_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = make_root(folder.path()).expect("a root");
        assert_eq!(for_step(&root, "e1", None), Ok(root.join("e1")));
        assert_eq!(for_step(&root, "e1", Some("a/./b/../c")), Ok(root.join("e1/a/c")));
        for wanted in ["..", "../e2", "a/../../e2", "/etc", "a/../../../x"] {
            assert!(for_step(&root, "e1", Some(wanted)).is_err(), "{wanted}");
        }
        for id in ["", "..", "a/b", "."] {
            assert!(for_step(&root, id, None).is_err(), "{id}");
        }
    }

    #[test]
    fn a_link_does_not_lead_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        let root = make_root(folder.path()).expect("a root");
        for_step(&root, "e1", None).expect("a folder");
        std::os::unix::fs::symlink(outside.path(), root.join("e1/out")).expect("a link");
        assert!(for_step(&root, "e1", Some("out")).is_err());
        assert!(for_step(&root, "e1", Some("out/deeper")).is_err());
        assert!(!outside.path().join("deeper").exists());
    }
}
