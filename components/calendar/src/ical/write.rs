//! The text format: lines with parameters, folded at 75 octets, in blocks. Pure.

/// The longest line, in octets.
const OCTETS_MAX: usize = 75;

/// A line of a calendar.
#[derive(Clone, Debug)]
pub struct Line {
    name: &'static str,
    parameters: Vec<(&'static str, String)>,
    value: String,
}

/// `BEGIN:…` to `END:…`.
#[derive(Clone, Debug)]
pub struct Block {
    /// As in `VEVENT`.
    pub name: &'static str,
    /// Its lines.
    pub lines: Vec<Line>,
    /// What is in it.
    pub blocks: Vec<Block>,
}

/// A line whose value is written as it is; it must not hold what ends a line.
pub fn line(name: &'static str, value: impl Into<String>) -> Line {
    let mut value: String = value.into();
    value.retain(|letter| !letter.is_control());
    Line { name, parameters: Vec::new(), value }
}

/// A line of free text.
pub fn text(name: &'static str, value: &str) -> Line {
    let mut escaped = String::with_capacity(value.len() + 8);
    for letter in value.replace("\r\n", "\n").chars() {
        match letter {
            '\\' | ';' | ',' => escaped.extend(['\\', letter]),
            '\n' => escaped.push_str("\\n"),
            letter => escaped.push(letter),
        }
    }
    line(name, escaped)
}

impl Line {
    /// With a parameter; what cannot be in one is left out.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        let value: String = value.chars().filter(|letter| !letter.is_control() && *letter != '"').collect();
        let value = if value.contains([':', ';', ',']) { format!("\"{value}\"") } else { value };
        self.parameters.push((key, value));
        self
    }

    fn write(&self, into: &mut String) {
        let mut whole = self.name.to_string();
        for (key, value) in &self.parameters {
            whole.push_str(&format!(";{key}={value}"));
        }
        whole.push(':');
        whole.push_str(&self.value);
        let mut octets = 0;
        for letter in whole.chars() {
            if octets + letter.len_utf8() > OCTETS_MAX {
                into.push_str("\r\n ");
                octets = 1;
            }
            into.push(letter);
            octets += letter.len_utf8();
        }
        into.push_str("\r\n");
    }
}

impl Block {
    /// Writes it.
    pub fn write(&self, into: &mut String) {
        line("BEGIN", self.name).write(into);
        self.lines.iter().for_each(|line| line.write(into));
        self.blocks.iter().for_each(|block| block.write(into));
        line("END", self.name).write(into);
    }
}

#[cfg(test)]
mod tests {
    use icalendar::parser::unfold;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_line_is_too_long_and_none_is_lost(value in "[ a-zäöü老\\t,;:\\\\\n]{0,400}") {
            let mut written = String::new();
            text("SUMMARY", &value).with("X-NAME", "a:b").write(&mut written);
            prop_assert!(written.split("\r\n").all(|line| line.len() <= OCTETS_MAX));
            let whole = unfold(&written);
            let found = icalendar::parser::Property::try_from(whole.as_str()).unwrap();
            let expected: String = value.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect();
            prop_assert_eq!(found.val.as_str(), expected);
        }
    }
}
