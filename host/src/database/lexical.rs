//! What can be told of a statement without parsing it: whether it surely only reads, and how many parameters it has.
//!
//! Only for routing and for early errors; it never decides what is allowed.

/// Whether a statement surely only reads: a SELECT, or a WITH without a word that changes rows anywhere in it.
pub(super) fn is_read(sql: &str) -> bool {
    // A leading comment makes it no certain read; the writer can run it just as well.
    if sql.trim_start().starts_with(['-', '/']) {
        return false;
    }
    let mut words = sql.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    match words.find(|word| !word.is_empty()) {
        Some(first) if first.eq_ignore_ascii_case("select") || first.eq_ignore_ascii_case("values") => true,
        Some(first) if first.eq_ignore_ascii_case("with") => !words
            .any(|word| ["insert", "update", "delete", "replace"].iter().any(|verb| word.eq_ignore_ascii_case(verb))),
        _ => false,
    }
}

/// The highest `$n` outside quotes: how many parameters the statement takes.
pub(super) fn parameter_count(sql: &str) -> usize {
    let mut highest = 0;
    let mut quote = None;
    let mut bytes = sql.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'-') if bytes.peek() == Some(&b'-') => while bytes.next().is_some_and(|byte| byte != b'\n') {},
            (None, b'$') => {
                let mut number = 0_usize;
                while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                    number = number.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
                }
                highest = highest.max(number);
            }
            (None, _) => {}
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::{is_read, parameter_count};

    #[test]
    fn only_what_surely_reads_goes_to_a_reader() {
        for (sql, expected) in [
            ("SELECT 1", true),
            ("  select * from a", true),
            ("(SELECT 1)", true),
            ("VALUES (1)", true),
            ("WITH a AS (SELECT 1) SELECT * FROM a", true),
            ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", false),
            ("-- SELECT\nDELETE FROM a", false),
            ("/* SELECT */ DELETE FROM a", false),
            ("INSERT INTO a VALUES (1)", false),
            ("", false),
        ] {
            assert_eq!(is_read(sql), expected, "{sql}");
        }
    }

    #[test]
    fn parameters_are_counted_by_number_and_outside_quotes() {
        for (sql, expected) in [
            ("SELECT 1", 0),
            ("SELECT $1, $2, $1", 2),
            ("SELECT '$9', \"$8\", $3", 3),
            ("SELECT 'it''s $7', $1", 1),
            ("SELECT $12", 12),
            ("SELECT $1 -- it's $2\n, $3", 3),
        ] {
            assert_eq!(parameter_count(sql), expected, "{sql}");
        }
    }
}
