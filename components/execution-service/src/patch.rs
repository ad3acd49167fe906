//! Unified diffs, applied strictly: every context and every removed line must be where the hunk says, or nothing
//! changes.

/// The most hunks of one diff.
const HUNKS_MAX: usize = 10_000;

/// Applies a unified diff of one file to a text.
///
/// ```
/// use execution_service::patch::apply;
/// let diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n one\n-two\n+zwei\n";
/// assert_eq!(apply("one\ntwo\n", diff).unwrap(), "one\nzwei\n");
/// assert!(apply("one\nthree\n", diff).is_err());
/// ```
///
/// # Errors
/// A sentence, when the diff is malformed or does not fit.
pub fn apply(text: &str, diff: &str) -> Result<String, String> {
    let hunks = read(diff)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut result = String::with_capacity(text.len() + diff.len());
    let mut position = 0;
    for hunk in &hunks {
        let start = hunk.start;
        if start < position || start > lines.len() {
            return Err(format!("a hunk begins at line {}, which is not there", start + 1));
        }
        result.extend(lines.get(position..start).unwrap_or_default().iter().copied());
        position = start;
        for line in &hunk.lines {
            match line {
                Line::Added(text) => result.push_str(text),
                Line::Kept(text) | Line::Removed(text) => {
                    if lines.get(position) != Some(&text.as_str()) {
                        return Err(format!("line {} is not what the diff expects", position + 1));
                    }
                    if matches!(line, Line::Kept(_)) {
                        result.push_str(text);
                    }
                    position += 1;
                }
            }
        }
    }
    result.extend(lines.get(position..).unwrap_or_default().iter().copied());
    Ok(result)
}

struct Hunk {
    /// The first line it looks at, from 0.
    start: usize,
    lines: Vec<Line>,
}

/// A line with its line break.
#[derive(Debug, PartialEq)]
enum Line {
    Kept(String),
    Removed(String),
    Added(String),
}

fn read(diff: &str) -> Result<Vec<Hunk>, String> {
    let mut hunks: Vec<Hunk> = Vec::new();
    // What the open hunk still has to hold: old and new lines.
    let (mut old, mut new) = (0_usize, 0_usize);
    for line in diff.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        if let Some(header) = bare.strip_prefix("@@ ").filter(|_| old == 0 && new == 0) {
            let (start, counts) = head(header).ok_or_else(|| format!("the hunk header {bare:?} cannot be read"))?;
            if hunks.len() >= HUNKS_MAX {
                return Err(format!("a diff has at most {HUNKS_MAX} hunks"));
            }
            (old, new) = counts;
            hunks.push(Hunk { start, lines: Vec::new() });
            continue;
        }
        let Some(hunk) = hunks.last_mut() else { continue };
        if bare.starts_with('\\') {
            no_line_break(hunk);
            continue;
        }
        if old == 0 && new == 0 {
            // Between hunks only white space stands; anything else would be lost unseen.
            if bare.trim().is_empty() {
                continue;
            }
            return Err("the diff holds more lines than its hunks say, or more than one file".into());
        }
        let whole = |text: &str| format!("{text}\n");
        let (sign, rest) = match bare.chars().next() {
            Some(sign @ (' ' | '-' | '+')) => (sign, bare.get(1..).unwrap_or_default()),
            // Some tools drop the blank before an empty line of context.
            None => (' ', ""),
            Some(_) => return Err(format!("the line {bare:?} is no line of a diff")),
        };
        let fits = match sign {
            '-' => take(&mut old),
            '+' => take(&mut new),
            _ => take(&mut old) && take(&mut new),
        };
        if !fits {
            return Err("a hunk holds more lines than it says".into());
        }
        hunk.lines.push(match sign {
            '-' => Line::Removed(whole(rest)),
            '+' => Line::Added(whole(rest)),
            _ => Line::Kept(whole(rest)),
        });
    }
    if old > 0 || new > 0 {
        return Err("the last hunk holds fewer lines than it says".into());
    }
    if hunks.is_empty() { Err("the diff has no hunk".into()) } else { Ok(hunks) }
}

fn take(left: &mut usize) -> bool {
    match left.checked_sub(1) {
        Some(less) => {
            *left = less;
            true
        }
        None => false,
    }
}

/// `\ No newline at end of file` speaks of the line before it.
fn no_line_break(hunk: &mut Hunk) {
    if let Some(Line::Kept(text) | Line::Removed(text) | Line::Added(text)) = hunk.lines.last_mut()
        && text.ends_with('\n')
    {
        text.pop();
    }
}

/// `-3,2 +3,4 @@ …` → line 2 (from 0), 2 old and 4 new lines.
fn head(header: &str) -> Option<(usize, (usize, usize))> {
    let (ranges, _) = header.split_once(" @@")?;
    let (old, new) = ranges.split_once(' ')?;
    let range = |text: &str| {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((start.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
    };
    let (start, old_count) = range(old.strip_prefix('-')?)?;
    let (_, new_count) = range(new.strip_prefix('+')?)?;
    // A hunk without old lines names the line it follows.
    let first = if old_count == 0 { start } else { start.checked_sub(1)? };
    Some((first, (old_count, new_count)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::apply;

    #[test]
    fn hunks_apply_in_their_order() {
        let text = "a\nb\nc\nd\ne\nf\n";
        let diff = "@@ -1,2 +1,3 @@\n a\n+A\n b\n@@ -5,2 +6,1 @@\n-e\n f\n";
        assert_eq!(apply(text, diff).unwrap(), "a\nA\nb\nc\nd\nf\n");
    }

    #[test]
    fn files_without_a_last_line_break_are_kept_so() {
        let diff = "@@ -1 +1 @@\n-old\n\\ No newline at end of file\n+new\n\\ No newline at end of file\n";
        assert_eq!(apply("old", diff).unwrap(), "new");
        assert!(apply("old\n", diff).is_err());
    }

    #[test]
    fn an_empty_file_is_filled_and_a_full_one_emptied() {
        assert_eq!(apply("", "@@ -0,0 +1,2 @@\n+a\n+b\n").unwrap(), "a\nb\n");
        assert_eq!(apply("a\nb\n", "@@ -1,2 +0,0 @@\n-a\n-b\n").unwrap(), "");
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        for diff in [
            "",
            "no diff at all",
            "@@ -1 +1 @@\n-x\n+y\n",
            "@@ -9 +9 @@\n-a\n+b\n",
            "@@ -1,2 +1 @@\n-a\n",
            "@@ -1 +1 @@\n-a\n+b\n+c\n",
            "@@ -2 +2 @@\n-b\n+B\n@@ -1 +1 @@\n-a\n+A\n",
            "@@ -x +1 @@\n-a\n+b\n",
            "@@ -1 +1 @@\n-a\n*b\n",
        ] {
            assert!(apply("a\nb\n", diff).is_err(), "{diff:?}");
        }
    }

    #[test]
    fn a_removed_line_may_look_like_a_header() {
        assert_eq!(apply("-- a\nx\n", "@@ -1,2 +1,1 @@\n--- a\n x\n").unwrap(), "x\n");
    }

    proptest! {
        /// Replacing everything by a diff of our own making gives everything new.
        #[test]
        fn a_whole_replacement_replaces_the_whole(old in prop::collection::vec("[a-c]{0,3}", 0..8), new in prop::collection::vec("[a-c]{0,3}", 0..8)) {
            let text: String = old.iter().map(|line| format!("{line}\n")).collect();
            let start = |count: usize| usize::from(count > 0);
            let mut diff = format!("@@ -{},{} +{},{} @@\n", start(old.len()), old.len(), start(new.len()), new.len());
            old.iter().for_each(|line| diff.push_str(&format!("-{line}\n")));
            new.iter().for_each(|line| diff.push_str(&format!("+{line}\n")));
            let wanted: String = new.iter().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(apply(&text, &diff).unwrap(), wanted);
        }

        #[test]
        fn no_diff_makes_it_panic(text in "[ab\n]{0,20}", diff in "[-+ @a0-3,\n\\\\]{0,60}") {
            let _ = apply(&text, &diff);
        }
    }
}
