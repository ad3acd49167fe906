//! The dialects of providers: a question as each of them takes it, and an answer as each of them gives it, whole or piece
//! by piece.

pub mod anthropic;
pub mod lines;
pub mod ollama;
pub mod openai;

use berth_sdk::{http_out::Call, prelude::*, serde_json::Value};

use crate::{
    ask::Ask,
    catalog::{KnownModel, KnownProvider},
    failure::Failure,
    message::{self, Role, ToolCall, Turn},
    provider::ProviderType,
};

/// Tool calls of one answer.
const CALLS_MAX: usize = 128;

/// A question to one model of one provider.
pub struct Question<'a> {
    /// Whom.
    pub provider: &'a KnownProvider,
    /// Which.
    pub model: &'a KnownModel,
    /// What.
    pub ask: &'a Ask,
    /// What of the messages fits.
    pub turns: &'a [Turn],
    /// How warm.
    pub temperature: Option<f64>,
    /// How long.
    pub max_tokens: Option<i64>,
    /// Piece by piece.
    pub stream: bool,
}

/// How many tokens went in and came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the question.
    pub input: i64,
    /// Of the answer.
    pub output: i64,
}

impl Usage {
    /// Both together.
    pub fn total(self) -> i64 {
        self.input.saturating_add(self.output)
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// More text.
    Text(String),
    /// More of a tool call; the id and the name come with its first piece.
    Call { index: usize, id: Option<String>, name: Option<String>, arguments: String },
    /// Why it ended: `stop`, `length`, `tool_calls`, `content_filter`.
    Finish(String),
    /// What the provider counted.
    Usage { input: Option<i64>, output: Option<i64> },
}

/// An answer as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// The text.
    pub text: String,
    /// The tool calls.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Option<String>,
    input: Option<i64>,
    output: Option<i64>,
}

impl Gathered {
    /// Adds a piece.
    pub fn push(&mut self, delta: &Delta) {
        match delta {
            Delta::Text(text) => self.text.push_str(text),
            Delta::Finish(reason) => self.finish = Some(reason.clone()),
            Delta::Usage { input, output } => {
                self.input = input.or(self.input);
                self.output = output.or(self.output);
            }
            Delta::Call { index, id, name, arguments } => {
                if *index >= CALLS_MAX {
                    return;
                }
                while self.calls.len() <= *index {
                    self.calls.push(ToolCall { id: format!("call_{}", self.calls.len()), ..ToolCall::default() });
                }
                let Some(call) = self.calls.get_mut(*index) else { return };
                if let Some(id) = id.as_ref().filter(|id| !id.is_empty()) {
                    call.id.clone_from(id);
                }
                if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
                    call.name.clone_from(name);
                }
                call.arguments.push_str(arguments);
            }
        }
    }

    /// The message of it.
    pub fn turn(&self) -> Turn {
        let content =
            if self.text.is_empty() && !self.calls.is_empty() { Value::Null } else { self.text.clone().into() };
        let mut calls = self.calls.clone();
        for call in calls.iter_mut().filter(|call| call.arguments.trim().is_empty()) {
            call.arguments = "{}".into();
        }
        Turn { role: Role::Assistant, content, calls, call_id: None }
    }

    /// What it cost in tokens: as the provider counted, or about as many where it has not said so.
    pub fn usage(&self, asked: i64) -> Usage {
        let said = message::tokens(&self.text)
            + self.calls.iter().map(|call| message::tokens(&call.name) + message::tokens(&call.arguments)).sum::<i64>();
        Usage { input: self.input.unwrap_or(asked).max(0), output: self.output.unwrap_or(said).max(0) }
    }

    /// What the provider counted, as a piece.
    pub fn counted(&self) -> Option<Delta> {
        let has_counted = self.input.is_some() || self.output.is_some();
        has_counted.then_some(Delta::Usage { input: self.input, output: self.output })
    }

    /// Why it ended, in OpenAI's words.
    pub fn reason(&self) -> &str {
        match self.finish.as_deref() {
            Some(reason) => reason,
            None if !self.calls.is_empty() => "tool_calls",
            None => "stop",
        }
    }
}

/// In whose form a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/chat/completions`.
    OpenAi,
    /// `/v1/messages`.
    Anthropic,
    /// `/api/chat`.
    Ollama,
}

impl Dialect {
    /// The dialect of a kind of provider; none for the one that is built in.
    pub fn of(kind: ProviderType) -> Option<Self> {
        match kind {
            ProviderType::Anthropic => Some(Self::Anthropic),
            ProviderType::Ollama => Some(Self::Ollama),
            ProviderType::Echo => None,
            _ => Some(Self::OpenAi),
        }
    }

    /// The call that asks.
    pub fn call(self, question: &Question<'_>) -> Result<Call, Failure> {
        match self {
            Self::OpenAi => openai::call(question),
            Self::Anthropic => anthropic::call(question),
            Self::Ollama => ollama::call(question),
        }
    }

    /// Reads a whole answer.
    pub fn read(self, body: &[u8]) -> Result<Gathered, Failure> {
        let value: Value = berth_sdk::serde_json::from_slice(body)
            .map_err(|_| Failure::invalid("The provider answered with something else than JSON."))?;
        match self {
            Self::OpenAi => openai::read(&value),
            Self::Anthropic => anthropic::read(&value),
            Self::Ollama => ollama::read(&value),
        }
    }
}

/// A number of tokens as a provider says it.
fn count(value: Option<&Value>) -> Option<i64> {
    value.and_then(Value::as_i64).filter(|count| (0..=1_000_000_000).contains(count))
}

/// The type and the base64 of an image that lies in its address.
fn inline_image(url: &str) -> Option<(&str, &str)> {
    url.strip_prefix("data:")?.split_once(";base64,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_answer() {
        let mut gathered = Gathered::default();
        let call = |index, id: Option<&str>, name: Option<&str>, arguments: &str| Delta::Call {
            index,
            id: id.map(Into::into),
            name: name.map(Into::into),
            arguments: arguments.into(),
        };
        for delta in [
            Delta::Text("a".into()),
            call(0, Some("c1"), Some("add"), ""),
            call(0, None, None, "{\"a\":"),
            call(1, None, Some("sub"), ""),
            call(0, None, None, "1}"),
            call(usize::MAX, None, None, "x"),
            Delta::Usage { input: Some(3), output: None },
        ] {
            gathered.push(&delta);
        }
        let turn = gathered.turn();
        assert_eq!((turn.words().as_str(), turn.calls.len()), ("a", 2));
        assert_eq!((turn.calls[0].id.as_str(), turn.calls[0].arguments.as_str()), ("c1", "{\"a\":1}"));
        assert_eq!((turn.calls[1].id.as_str(), turn.calls[1].arguments.as_str()), ("call_1", "{}"));
        assert_eq!(gathered.reason(), "tool_calls");
        let usage = gathered.usage(99);
        assert_eq!(usage.input, 3);
        assert!(usage.output > 0, "about as much as was said");
    }
}
