//! The contract is the author's manual: every item in `wit/` says what it is.

use super::Finding;
use super::source::Source;

/// Items that need a sentence above them.
const ITEMS: [&str; 10] =
    ["interface ", "world ", "record ", "variant ", "enum ", "flags ", "resource ", "type ", "constructor(", "export "];

/// Every undocumented item of our own contract; vendored files are left alone.
pub(super) fn check_wit(source: &Source, findings: &mut Vec<Finding>) {
    if !source.path.starts_with("wit/") || source.path.starts_with("wit/deps/") || !source.path.ends_with(".wit") {
        return;
    }
    let mut previous = "";
    let mut is_in_world = false;
    for (number, line) in source.text.lines().enumerate() {
        let code = line.trim();
        if code.is_empty() {
            continue;
        }
        if line.starts_with("world ") {
            is_in_world = true;
        } else if line.starts_with('}') {
            is_in_world = false;
        }
        let is_item = ITEMS.iter().any(|item| code.starts_with(item))
            || code.contains(": func(")
            || code.contains(": static func(");
        let is_wiring = is_in_world && !line.starts_with("world ");
        if is_item && !is_wiring && !previous.starts_with("///") && !previous.starts_with('@') {
            let name: String = code.chars().take_while(|c| !matches!(c, '{' | '(' | '=' | ';')).collect();
            let sentence = format!(
                "`{}` has no /// above it: the contract is the author's manual",
                name.trim().trim_end_matches(':')
            );
            findings.push(Finding { path: source.path.clone(), line: Some(number + 1), sentence });
        }
        previous = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_need_a_sentence() {
        let check = |text: &str| {
            let mut findings = Vec::new();
            check_wit(&Source::new("wit/a.wit", text), &mut findings);
            findings.len()
        };
        assert_eq!(check("/// A.\ninterface a {\n  /// B.\n  b: func();\n}\n"), 0);
        assert_eq!(check("interface a {\n  b: func();\n}\n"), 2);
        assert_eq!(check("/// W.\nworld w {\n  import a;\n  export b;\n}\n"), 0);
        assert_eq!(check("/// A.\ninterface a {\n  record r {\n    x: u8,\n  }\n}\n"), 1);
    }
}
