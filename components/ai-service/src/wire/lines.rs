//! Lines out of a body that comes piece by piece, and the pieces of an answer out of these: server-sent events, or JSON
//! line by line.

use berth_sdk::{serde_json, serde_json::Value};

use super::{CALLS_MAX, Delta, Dialect, anthropic, ollama, openai};
use crate::failure::Failure;

/// Bytes of one line, or of the data of one event.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What an event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Pieces of the answer.
    pub deltas: Vec<Delta>,
    /// There is nothing more to come.
    pub is_end: bool,
}

/// Reads an answer as it comes.
#[derive(Debug)]
pub struct Decoder {
    dialect: Dialect,
    line: Vec<u8>,
    data: String,
    /// Tool calls so far, for those that have no number of their own.
    calls: usize,
    /// The numbers that the provider gives its calls, in the order of ours.
    numbers: Vec<usize>,
    /// The provider has said why it ended.
    has_finished: bool,
    /// The provider has said that it is over.
    pub is_over: bool,
}

impl Decoder {
    /// For one answer.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            line: Vec::new(),
            data: String::new(),
            calls: 0,
            numbers: Vec::new(),
            has_finished: false,
            is_over: false,
        }
    }

    /// Adds the pieces that these bytes complete; those before a failure as well.
    pub fn push(&mut self, bytes: &[u8], deltas: &mut Vec<Delta>) -> Result<(), Failure> {
        for byte in bytes {
            if self.is_over {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LINE_BYTES_MAX {
                    return Err(Failure::invalid("The provider answered with a line without end."));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            deltas.extend(self.line(&line)?);
        }
        Ok(())
    }

    /// The body is over: adds what was still in it, or says that it broke off.
    pub fn end(&mut self, deltas: &mut Vec<Delta>) -> Result<(), Failure> {
        self.push(b"\n\n", deltas)?;
        if self.is_over || self.has_finished {
            self.is_over = true;
            return Ok(());
        }
        Err(Failure::invalid("The provider broke off in the middle of its answer."))
    }

    fn line(&mut self, line: &str) -> Result<Vec<Delta>, Failure> {
        if self.dialect == Dialect::Ollama {
            return if line.trim().is_empty() { Ok(Vec::new()) } else { self.event(line) };
        }
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return if data.is_empty() { Ok(Vec::new()) } else { self.event(&data) };
        }
        if let Some(rest) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(rest.strip_prefix(' ').unwrap_or(rest));
            if self.data.len() > LINE_BYTES_MAX {
                return Err(Failure::invalid("The provider answered with an event without end."));
            }
        }
        // The other fields say nothing that the data does not say; comments keep the connection open.
        Ok(Vec::new())
    }

    fn event(&mut self, data: &str) -> Result<Vec<Delta>, Failure> {
        if data.trim() == "[DONE]" {
            self.is_over = true;
            return Ok(Vec::new());
        }
        let value: Value = serde_json::from_str(data)
            .map_err(|_| Failure::invalid("The provider answered with something else than JSON."))?;
        let mut said = match self.dialect {
            Dialect::OpenAi => openai::event(&value)?,
            Dialect::Anthropic => anthropic::event(&value)?,
            Dialect::Ollama => ollama::event(&value, &mut self.calls)?,
        };
        for delta in &mut said.deltas {
            if let Delta::Call { index, .. } = delta {
                *index = self.number(*index)?;
            }
        }
        self.is_over |= said.is_end;
        self.has_finished |= said.deltas.iter().any(|delta| matches!(delta, Delta::Finish(_)));
        Ok(said.deltas)
    }
}

impl Decoder {
    /// Our number of a call: the first is 0, whatever stood before it.
    fn number(&mut self, theirs: usize) -> Result<usize, Failure> {
        if let Some(ours) = self.numbers.iter().position(|known| *known == theirs) {
            return Ok(ours);
        }
        if self.numbers.len() >= CALLS_MAX {
            return Err(Failure::invalid("The provider answered with more tool calls than are made."));
        }
        self.numbers.push(theirs);
        Ok(self.numbers.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use berth_sdk::json;
    use proptest::prelude::*;

    use super::*;
    use crate::{failure::FailureKind, wire::Gathered};

    const OPENAI: &str = ": hello\r\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Héllo\"}}]}\n\ndata:{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"add\",\"arguments\":\"{}\"}}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
        data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"add\",\"input\":{}}}\n\n\
        data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\n\
        data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    const OLLAMA: &str = "{\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n{\"message\":{\"content\":\"lo\",\"tool_calls\":[{\"function\":{\"name\":\"add\",\"arguments\":{\"a\":1}}}]}}\n\
        {\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":4,\"eval_count\":3}\n";

    fn decode(dialect: Dialect, text: &str, size: usize) -> Result<Gathered, Failure> {
        let mut decoder = Decoder::new(dialect);
        let (mut gathered, mut deltas) = (Gathered::default(), Vec::new());
        for chunk in text.as_bytes().chunks(size.max(1)) {
            decoder.push(chunk, &mut deltas)?;
        }
        decoder.end(&mut deltas)?;
        deltas.iter().for_each(|delta| gathered.push(delta));
        Ok(gathered)
    }

    #[test]
    fn each_dialect_is_read_as_it_comes() {
        let openai = decode(Dialect::OpenAi, OPENAI, 4096).unwrap();
        assert_eq!(
            (openai.text.as_str(), openai.calls[0].name.as_str(), openai.reason()),
            ("Héllo", "add", "tool_calls")
        );
        assert_eq!((openai.usage(0).input, openai.usage(0).output), (5, 2));
        let anthropic = decode(Dialect::Anthropic, ANTHROPIC, 4096).unwrap();
        assert_eq!((anthropic.text.as_str(), anthropic.turn().calls[0].arguments.as_str()), ("Hi", "{\"a\":1}"));
        assert_eq!((anthropic.usage(0).input, anthropic.usage(0).output, anthropic.reason()), (7, 9, "tool_calls"));
        let ollama = decode(Dialect::Ollama, OLLAMA, 4096).unwrap();
        assert_eq!((ollama.text.as_str(), ollama.calls[0].arguments.as_str()), ("Hello", "{\"a\":1}"));
        assert_eq!((ollama.usage(0).input, ollama.usage(0).output), (4, 3));
    }

    #[test]
    fn half_an_answer_is_none() {
        for (dialect, text) in [(Dialect::OpenAi, OPENAI), (Dialect::Anthropic, ANTHROPIC), (Dialect::Ollama, OLLAMA)] {
            let half: String = text.chars().take(text.chars().count() / 3).collect();
            assert_eq!(decode(dialect, &half, 7).unwrap_err().kind, FailureKind::Invalid, "{dialect:?}");
            assert_eq!(decode(dialect, "", 1).unwrap_err().kind, FailureKind::Invalid);
        }
        assert_eq!(decode(Dialect::OpenAi, "data: <html>\n\n", 9).unwrap_err().kind, FailureKind::Invalid);
        let endless = format!("data: {}", "x".repeat(LINE_BYTES_MAX + 1));
        assert_eq!(decode(Dialect::OpenAi, &endless, 65_536).unwrap_err().kind, FailureKind::Invalid);
    }

    #[test]
    fn tool_calls_without_end_are_no_answer() {
        let event = |index: usize| {
            let call = json!({ "index": index, "function": { "name": "add", "arguments": "{}" } });
            format!("data: {}\n\n", json!({ "choices": [{ "delta": { "tool_calls": [call] } }] }))
        };
        let openai = |count: usize| (0..count).map(event).collect::<String>() + "data: [DONE]\n\n";
        let most = decode(Dialect::OpenAi, &openai(CALLS_MAX), 4096).unwrap();
        assert_eq!(most.calls.len(), CALLS_MAX);
        let more = decode(Dialect::OpenAi, &openai(CALLS_MAX + 1), 4096).unwrap_err();
        assert_eq!(more.kind, FailureKind::Invalid);
        let call = json!({ "function": { "name": "add", "arguments": {} } });
        let line = json!({ "message": { "tool_calls": vec![call; CALLS_MAX + 1] }, "done": true });
        assert_eq!(decode(Dialect::Ollama, &format!("{line}\n"), 4096).unwrap_err().kind, FailureKind::Invalid);
    }

    #[test]
    fn what_was_said_before_a_failure_is_not_lost() {
        let mut decoder = Decoder::new(Dialect::OpenAi);
        let mut deltas = Vec::new();
        let bytes = b"data: {\"choices\":[{\"delta\":{\"content\":\"Once\"}}]}\n\ndata: <html>\n\n";
        assert!(decoder.push(bytes, &mut deltas).is_err());
        assert_eq!(deltas, [Delta::Text("Once".into())]);
    }

    #[test]
    fn an_error_within_the_stream_is_one() {
        let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
        assert_eq!(decode(Dialect::OpenAi, error, 50).unwrap_err().kind, FailureKind::Server);
        let error = "data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"x\"}}\n\n";
        assert_eq!(decode(Dialect::Anthropic, error, 50).unwrap_err().kind, FailureKind::RateLimited);
        assert_eq!(
            decode(Dialect::Ollama, "{\"error\":\"model crashed\"}\n", 50).unwrap_err().kind,
            FailureKind::Server
        );
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_does_not_matter(size in 1_usize..200) {
            for (dialect, text) in [(Dialect::OpenAi, OPENAI), (Dialect::Anthropic, ANTHROPIC), (Dialect::Ollama, OLLAMA)] {
                prop_assert_eq!(decode(dialect, text, size), decode(dialect, text, text.len()));
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama] {
                let mut decoder = Decoder::new(dialect);
                let mut deltas = Vec::new();
                let _ = decoder.push(&bytes, &mut deltas);
                let _ = decoder.end(&mut deltas);
            }
        }
    }
}
