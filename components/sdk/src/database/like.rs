//! Patterns of `LIKE` for texts that somebody has typed, in which no letter stands for others. To be used as
//! `column LIKE ? ESCAPE '!'`.

/// A text as it stands in a pattern.
///
/// ```
/// use berth_sdk::database::like;
/// assert_eq!(like::escape("50%_a!"), "50!%!_a!!");
/// ```
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '!') {
            escaped.push('!');
        }
        escaped.push(letter);
    }
    escaped
}

/// A pattern for a text anywhere.
///
/// ```
/// use berth_sdk::database::like;
/// assert_eq!(like::anywhere("100%"), "%100!%%");
/// ```
pub fn anywhere(text: &str) -> String {
    format!("%{}%", escape(text))
}

/// A pattern for an entry of a list of texts that is stored as JSON: `CAST(tags AS TEXT) LIKE ? ESCAPE '!'`.
///
/// ```
/// use berth_sdk::database::like;
/// assert_eq!(like::entry("a_b"), "%\"a!_b\"%");
/// assert_eq!(like::entry("say \"x\""), r#"%"say \"x\""%"#);
/// ```
pub fn entry(text: &str) -> String {
    anywhere(&serde_json::Value::from(text).to_string())
}
