//! A leased step, read from what the host sent, and the programs that may run.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::super::CommandError;
use super::super::inspect::text;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
const ARGUMENTS_MAX: usize = 1000;
const VARIABLES_MAX: usize = 200;
/// Variables by which a program loads or runs other code than its own: they would undo the allow-list.
const DANGEROUS: [&str; 12] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PERL5OPT",
    "PERL5LIB",
    "PYTHONSTARTUP",
    "PYTHONPATH",
    "RUBYOPT",
    "NODE_OPTIONS",
];

/// A step as it was leased.
#[derive(Debug)]
pub(super) struct Step {
    pub execution_id: String,
    pub id: String,
    pub lease_token: String,
    params: Value,
}

/// What is to be run, judged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub working_directory: Option<String>,
    pub environment: BTreeMap<String, String>,
    pub timeout: Duration,
}

impl Step {
    /// None when the lease lacks what is needed to answer it.
    pub(super) fn read(lease: &Value) -> Option<Self> {
        Some(Self {
            execution_id: text(lease, "executionId")?.to_owned(),
            id: text(lease, "stepId")?.to_owned(),
            lease_token: text(lease, "leaseToken")?.to_owned(),
            params: lease.get("params").cloned().unwrap_or(Value::Null),
        })
    }

    /// The command's name, for the person at the terminal. Arguments may hold what is not for every eye.
    pub(super) fn described(&self) -> String {
        let command = text(&self.params, "command").unwrap_or("(no command)");
        command.chars().filter(|letter| !letter.is_control()).take(80).collect()
    }

    /// Judges the parameters against what may run.
    ///
    /// # Errors
    /// A sentence, when the command is not allowed or a parameter has the wrong type.
    pub(super) fn invocation(&self, programs: &Programs) -> Result<Invocation, String> {
        let command = text(&self.params, "command").ok_or("params.command must be a string")?;
        let program =
            programs.path(command).ok_or_else(|| format!("this worker does not allow the command {command}"))?;
        Ok(Invocation {
            program: program.to_path_buf(),
            arguments: self.arguments()?,
            working_directory: match self.params.get("workingDirectory") {
                None | Some(Value::Null) => None,
                Some(Value::String(folder)) => Some(folder.clone()),
                Some(_) => return Err("params.workingDirectory must be a string".to_owned()),
            },
            environment: self.environment()?,
            timeout: match self.params.get("timeoutMs") {
                None | Some(Value::Null) => TIMEOUT_DEFAULT,
                Some(value) => {
                    let timeout_ms = value.as_u64().filter(|timeout_ms| *timeout_ms > 0);
                    let timeout_ms = timeout_ms.ok_or("params.timeoutMs must be a positive whole number")?;
                    Duration::from_millis(timeout_ms).min(TIMEOUT_MAX)
                }
            },
        })
    }

    fn arguments(&self) -> Result<Vec<String>, String> {
        let arguments = match self.params.get("args") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(arguments)) if arguments.len() <= ARGUMENTS_MAX => arguments,
            Some(_) => return Err(format!("params.args must be a list of at most {ARGUMENTS_MAX} strings")),
        };
        arguments
            .iter()
            .map(|argument| match argument {
                Value::String(argument) if !argument.contains('\0') => Ok(argument.clone()),
                Value::Object(_) => Err("references to secrets are not supported by this worker".to_owned()),
                _ => Err("params.args must hold strings only".to_owned()),
            })
            .collect()
    }

    fn environment(&self) -> Result<BTreeMap<String, String>, String> {
        let variables = match self.params.get("environment") {
            None | Some(Value::Null) => return Ok(BTreeMap::new()),
            Some(Value::Object(variables)) if variables.len() <= VARIABLES_MAX => variables,
            Some(_) => return Err(format!("params.environment must be an object of at most {VARIABLES_MAX} strings")),
        };
        let mut environment = BTreeMap::new();
        for (name, value) in variables {
            if !is_variable(name) {
                return Err(format!("the variable {name} cannot be set by a step"));
            }
            match value {
                Value::String(value) if !value.contains('\0') => environment.insert(name.clone(), value.clone()),
                Value::Object(_) => return Err("references to secrets are not supported by this worker".to_owned()),
                _ => return Err("params.environment must hold strings only".to_owned()),
            };
        }
        Ok(environment)
    }
}

fn is_variable(name: &str) -> bool {
    let is_word =
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    let upper = name.to_ascii_uppercase();
    let is_loader = ["LD_", "DYLD_", "GIT_", "BERTH_"].iter().any(|prefix| upper.starts_with(prefix));
    !name.is_empty() && name.len() <= 128 && is_word && !is_loader && !DANGEROUS.contains(&upper.as_str())
}

/// The programs of the allow-list with the files they were when the worker started.
#[derive(Debug)]
pub(super) struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Finds each on `PATH`.
    ///
    /// # Errors
    /// When one is not a plain name or is not found: every fault at once.
    pub(super) fn find(names: &[String]) -> Result<Self, CommandError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let (mut programs, mut faults) = (BTreeMap::new(), Vec::new());
        for name in names {
            let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
            let found = folders.iter().map(|folder| folder.join(name)).find(|file| is_executable(file));
            match (is_plain, found) {
                (true, Some(file)) => {
                    programs.insert(name.clone(), file);
                }
                (true, None) => faults.push(format!("--allow {name}: there is no such program on PATH")),
                (false, _) => faults.push(format!("--allow {name}: name the program only, without a path")),
            }
        }
        if faults.is_empty() { Ok(Self(programs)) } else { Err(CommandError::Usage(faults)) }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The file of exactly this name.
    fn path(&self, name: &str) -> Option<&Path> {
        self.0.get(name).map(PathBuf::as_path)
    }
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judge(params: Value) -> Result<Invocation, String> {
        let programs = Programs::find(&["echo".to_owned()]).expect("echo");
        let lease = json!({"executionId": "e", "stepId": "s", "leaseToken": "t", "params": params});
        Step::read(&lease).expect("a step").invocation(&programs)
    }

    #[test]
    fn only_the_allow_list_runs() {
        let invocation = judge(json!({"command": "echo", "args": ["a b", "$HOME"], "timeoutMs": 5})).expect("allowed");
        assert!(invocation.program.ends_with("echo"));
        assert_eq!(invocation.arguments, ["a b", "$HOME"]);
        assert_eq!(invocation.timeout, Duration::from_millis(5));
        for command in ["sh", "/bin/echo", "./echo", "echo ", "", "echo;ls"] {
            assert!(judge(json!({ "command": command })).is_err(), "{command}");
        }
    }

    #[test]
    fn parameters_of_a_wrong_type_are_refused() {
        for params in [
            json!(null),
            json!({"command": 5}),
            json!({"command": "echo", "args": "x"}),
            json!({"command": "echo", "args": [1]}),
            json!({"command": "echo", "args": [{"type": "SECRET_REF", "secretId": "s"}]}),
            json!({"command": "echo", "timeoutMs": 0}),
            json!({"command": "echo", "timeoutMs": "5"}),
            json!({"command": "echo", "workingDirectory": 1}),
            json!({"command": "echo", "environment": {"LD_PRELOAD": "x.so"}}),
            json!({"command": "echo", "environment": {"PATH": "."}}),
            json!({"command": "echo", "environment": {"A=B": "x"}}),
        ] {
            assert!(judge(params.clone()).is_err(), "{params}");
        }
    }

    #[test]
    fn a_program_is_named_without_a_path() {
        assert!(Programs::find(&["/bin/echo".to_owned()]).is_err());
        assert!(Programs::find(&["no-such-program-anywhere".to_owned()]).is_err());
    }
}
