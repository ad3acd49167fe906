//! The provider that is built in: it needs no key and no network, says the same to the same question, and pretends to be
//! nothing else. It repeats the last message of the user. A line `call <tool> <json>` in it makes it call that tool once;
//! after the results it answers with them.

use berth_sdk::serde_json::{self, Value};

use crate::{
    message::{Role, Turn},
    wire::{Delta, Gathered, Usage},
};

/// Letters of one piece of a streamed answer, about.
const PIECE_LETTERS: usize = 24;

/// The answer, in pieces.
pub fn answer(turns: &[Turn], max_tokens: Option<i64>) -> Vec<Delta> {
    let asked: i64 = turns.iter().map(Turn::tokens).sum();
    let last = turns.iter().rposition(|turn| turn.role == Role::User);
    let words = last.and_then(|index| turns.get(index)).map(Turn::words).unwrap_or_default();
    let after = last.and_then(|index| turns.get(index + 1..)).unwrap_or_default();
    let results: Vec<String> = after.iter().filter(|turn| turn.role == Role::Tool).map(Turn::words).collect();
    let calls: Vec<(String, String)> = words.lines().filter_map(call_in).collect();
    let mut deltas = Vec::new();
    if let Some((name, arguments)) = calls.get(results.len()) {
        let id = Some(format!("call_{}", results.len() + 1));
        deltas.push(Delta::Call { index: 0, id, name: Some(name.clone()), arguments: arguments.clone() });
        deltas.push(Delta::Finish("tool_calls".into()));
    } else {
        let text = if results.is_empty() { words } else { results.join("\n") };
        let letters_max = max_tokens.and_then(|tokens| usize::try_from(tokens.saturating_mul(4)).ok());
        let cut: String = text.chars().take(letters_max.unwrap_or(usize::MAX)).collect();
        let reason = if cut.len() < text.len() { "length" } else { "stop" };
        deltas.extend(pieces(&cut).into_iter().map(Delta::Text));
        deltas.push(Delta::Finish(reason.into()));
    }
    let mut gathered = Gathered::default();
    deltas.iter().for_each(|delta| gathered.push(delta));
    let Usage { input, output } = gathered.usage(asked);
    deltas.push(Delta::Usage { input: Some(input), output: Some(output) });
    deltas
}

/// `call <tool> <json object>`.
fn call_in(line: &str) -> Option<(String, String)> {
    let (name, arguments) = line.trim().strip_prefix("call ")?.trim_start().split_once(' ').unwrap_or_default();
    let value: Value = serde_json::from_str(arguments.trim()).ok()?;
    (!name.is_empty() && value.is_object()).then(|| (name.to_string(), value.to_string()))
}

/// A text in pieces of whole words.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        piece.push_str(word);
        if piece.len() >= PIECE_LETTERS {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(turns: &[Turn]) -> Gathered {
        let mut gathered = Gathered::default();
        answer(turns, None).iter().for_each(|delta| gathered.push(delta));
        gathered
    }

    #[test]
    fn it_repeats_the_last_message_of_the_user() {
        let turns = [
            Turn::text(Role::System, "Be brief."),
            Turn::text(Role::User, "one"),
            Turn::text(Role::Assistant, "one"),
            Turn::text(Role::User, "two  words,\nand a rather long line of many more words than one piece holds"),
        ];
        assert_eq!(gathered(&turns).text, turns[3].words());
        assert_eq!(answer(&turns, None), answer(&turns, None));
        assert!(answer(&turns, None).len() > 4, "in pieces");
        assert_eq!(gathered(&turns[..1]).text, "");
    }

    #[test]
    fn a_line_calls_a_tool_once_and_the_result_is_the_answer() {
        let mut turns =
            vec![Turn::text(Role::User, "Please\ncall add {\"a\": 1}\ncall files/read {\"path\":\"x\"}\ncall me")];
        let first = gathered(&turns).turn();
        assert_eq!((first.calls[0].name.as_str(), first.calls[0].arguments.as_str()), ("add", "{\"a\":1}"));
        turns.push(first);
        turns.push(Turn::result("call_1", "2"));
        let second = gathered(&turns).turn();
        assert_eq!((second.calls[0].name.as_str(), second.calls[0].id.as_str()), ("files/read", "call_2"));
        turns.push(second);
        turns.push(Turn::result("call_2", "text"));
        assert_eq!(gathered(&turns).text, "2\ntext");
        assert_eq!(gathered(&turns).reason(), "stop");
    }

    #[test]
    fn a_limit_cuts_the_answer() {
        let turns = [Turn::text(Role::User, "abcdefghij")];
        assert_eq!(answer(&turns, Some(1))[0], Delta::Text("abcd".into()));
        assert_eq!(answer(&turns, Some(1))[1], Delta::Finish("length".into()));
    }
}
