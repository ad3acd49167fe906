//! What calls of the host's functions are given and answer, as it is kept and as it stands in a capsule.

use serde_json::{Value, json};
use zeroize::Zeroize;

use super::hide::{HIDDEN, Hider, marker, read_bytes, show_bytes};
use crate::bindings::imports::database::{Message, Rows, Value as Cell};
use crate::bindings::imports::mail;
use crate::bindings::imports::types::Fault;

/// Bytes that every kept value takes besides its own.
const OVERHEAD_BYTES: usize = 16;

/// A type that host functions take or answer.
pub(crate) trait Shape: Clone + Send + 'static {
    /// About how much room it takes.
    fn bytes(&self) -> usize;

    /// As JSON, without secrets.
    fn show(&self, hider: &Hider) -> Value;

    /// The reverse of [`Shape::show`]; none for what is no such value.
    fn read(value: &Value) -> Option<Self>;

    /// Overwrites what may be a secret.
    fn wipe(&mut self) {}
}

/// Something on a tape.
pub(crate) trait Kept: Send {
    /// As JSON, without secrets.
    fn show(&self, hider: &Hider) -> Value;
}

impl<T: Shape> Kept for T {
    fn show(&self, hider: &Hider) -> Value {
        Shape::show(self, hider)
    }
}

/// What goes into the secrets room and comes out of it: no byte of it is ever shown, and it is wiped when it goes.
pub(crate) struct Private<T: Shape> {
    pub value: T,
    pub secrecy: Secrecy,
}

/// What is private about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// A secret, sealed or open: it is looked for everywhere else too.
    Secret,
    /// A MAC and what it is of, or random bytes. How long the answer is everybody knows. What is signed may be a token, but
    /// also a whole request, without which nothing can be played again.
    Mac,
}

/// Longer data under a MAC is no token.
const TOKEN_BYTES_MAX: usize = 256;

impl<T: Shape> Kept for Private<T> {
    fn show(&self, hider: &Hider) -> Value {
        // Nothing in it is looked at for names: it goes as a whole.
        let mut value = Shape::show(&self.value, &Hider::blind());
        // Arguments are a list.
        let keeps_length = self.secrecy == Secrecy::Mac && !value.is_array();
        conceal(&mut value, keeps_length, self.secrecy, hider);
        value
    }
}

impl<T: Shape> Drop for Private<T> {
    fn drop(&mut self) {
        self.value.wipe();
    }
}

fn conceal(value: &mut Value, keeps_length: bool, secrecy: Secrecy, hider: &Hider) {
    if let Some(bytes) = read_bytes(value) {
        let hidden = marker(if keeps_length { bytes.len() } else { HIDDEN.len() });
        *value = json!({ "redacted": hidden.len() });
        let is_document =
            || serde_json::from_slice::<Value>(&bytes).is_ok_and(|json| json.is_object() || json.is_array());
        if secrecy == Secrecy::Secret || keeps_length || (bytes.len() <= TOKEN_BYTES_MAX && !is_document()) {
            hider.note_private(bytes, hidden);
        }
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| conceal(item, keeps_length, secrecy, hider)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| conceal(member, keeps_length, secrecy, hider));
        }
        _ => {}
    }
}

impl Shape for () {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES
    }

    fn show(&self, _: &Hider) -> Value {
        Value::Null
    }

    fn read(value: &Value) -> Option<Self> {
        value.is_null().then_some(())
    }
}

/// Numbers and truths stand for themselves.
macro_rules! simple {
    ($($type:ty: $read:expr;)*) => {
        $(impl Shape for $type {
            fn bytes(&self) -> usize {
                OVERHEAD_BYTES
            }

            fn show(&self, _: &Hider) -> Value {
                Value::from(*self)
            }

            fn read(value: &Value) -> Option<Self> {
                $read(value)
            }
        })*
    };
}

simple! {
    bool: Value::as_bool;
    i64: Value::as_i64;
    u64: Value::as_u64;
    u32: |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
}

impl Shape for String {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.len()
    }

    fn show(&self, hider: &Hider) -> Value {
        Value::from(hider.text(self))
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Shape for Vec<u8> {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.len()
    }

    fn show(&self, hider: &Hider) -> Value {
        show_bytes(&hider.bytes(self))
    }

    fn read(value: &Value) -> Option<Self> {
        read_bytes(value)
    }

    fn wipe(&mut self) {
        self.zeroize();
    }
}

impl<T: Shape> Shape for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(OVERHEAD_BYTES, Shape::bytes)
    }

    fn show(&self, hider: &Hider) -> Value {
        self.as_ref().map_or(Value::Null, |value| Shape::show(value, hider))
    }

    fn read(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::read(value).map(Some) }
    }

    fn wipe(&mut self) {
        if let Some(value) = self {
            value.wipe();
        }
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.iter().map(Shape::bytes).sum::<usize>()
    }

    fn show(&self, hider: &Hider) -> Value {
        Value::Array(self.iter().map(|value| Shape::show(value, hider)).collect())
    }

    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::read).collect()
    }
}

impl<T: Shape> Shape for Result<T, Fault> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(OVERHEAD_BYTES, Shape::bytes)
    }

    fn show(&self, hider: &Hider) -> Value {
        match self {
            Ok(value) => json!({ "ok": Shape::show(value, hider) }),
            Err(fault) => json!({ "fault": show_fault(fault, hider) }),
        }
    }

    fn read(value: &Value) -> Option<Self> {
        match value.get("fault") {
            Some(fault) => read_fault(fault).map(Err),
            None => T::read(value.get("ok")?).map(Ok),
        }
    }

    fn wipe(&mut self) {
        if let Ok(value) = self {
            value.wipe();
        }
    }
}

fn show_fault(fault: &Fault, hider: &Hider) -> Value {
    match fault {
        Fault::Denied(text) => json!({ "denied": hider.text(text) }),
        Fault::Conflict(text) => json!({ "conflict": hider.text(text) }),
        Fault::TooLarge(text) => json!({ "too-large": hider.text(text) }),
        Fault::Invalid(text) => json!({ "invalid": hider.text(text) }),
        Fault::Busy => json!("busy"),
        Fault::Unavailable => json!("unavailable"),
        Fault::Timeout => json!("timeout"),
    }
}

fn read_fault(value: &Value) -> Option<Fault> {
    let text = |member: &str| value.get(member).and_then(Value::as_str).map(str::to_owned);
    match value.as_str() {
        Some("busy") => Some(Fault::Busy),
        Some("unavailable") => Some(Fault::Unavailable),
        Some("timeout") => Some(Fault::Timeout),
        _ => text("denied")
            .map(Fault::Denied)
            .or_else(|| text("conflict").map(Fault::Conflict))
            .or_else(|| text("too-large").map(Fault::TooLarge))
            .or_else(|| text("invalid").map(Fault::Invalid)),
    }
}

impl Shape for Cell {
    fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Self::Text(text) | Self::Timestamp(text) | Self::Json(text) => text.len(),
                Self::Bytes(bytes) => bytes.len(),
                Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => 0,
            }
    }

    fn show(&self, hider: &Hider) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => json!(value),
            Self::Integer(value) => json!(value),
            // JSON has no number for what is none.
            Self::Float(value) => json!({ "float": value.to_string() }),
            Self::Text(text) => json!(hider.text(text)),
            Self::Bytes(bytes) => json!({ "bytes": show_bytes(&hider.bytes(bytes)) }),
            Self::Timestamp(text) => json!({ "timestamp": text }),
            Self::Json(text) => json!({ "json": hider.text(text) }),
        }
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |member: &str| value.get(member).and_then(Value::as_str);
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Boolean(*value)),
            Value::Number(number) => number.as_i64().map(Self::Integer),
            Value::String(text) => Some(Self::Text(text.clone())),
            _ => {
                let float = text("float").and_then(|text| text.parse().ok()).map(Self::Float);
                let bytes = || value.get("bytes").and_then(read_bytes).map(Self::Bytes);
                let timestamp = || text("timestamp").map(|text| Self::Timestamp(text.to_owned()));
                float.or_else(bytes).or_else(timestamp).or_else(|| text("json").map(|text| Self::Json(text.to_owned())))
            }
        }
    }
}

/// A cell of a column whose name says that it is a secret.
fn hidden(cell: &Cell, hider: &Hider) -> Value {
    let cell = match cell {
        Cell::Text(text) => Cell::Text(hider.hide(text)),
        Cell::Json(text) => Cell::Json(json!(hider.hide(text)).to_string()),
        Cell::Integer(number) => {
            hider.hide(&number.to_string());
            Cell::Integer(0)
        }
        Cell::Bytes(bytes) => {
            let hidden = marker(HIDDEN.len());
            hider.note_private(bytes.clone(), hidden.clone());
            Cell::Bytes(hidden)
        }
        Cell::Float(_) => Cell::Float(0.0),
        Cell::Null | Cell::Boolean(_) | Cell::Timestamp(_) => cell.clone(),
    };
    Shape::show(&cell, hider)
}

impl Shape for Rows {
    fn bytes(&self) -> usize {
        Shape::bytes(&self.columns) + Shape::bytes(&self.rows)
    }

    fn show(&self, hider: &Hider) -> Value {
        let is_count = |name: &str| crate::capability::logging::is_count(name, "0");
        let rows = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&self.columns).map(|(cell, column)| {
                let is_number = matches!(cell, Cell::Integer(_) | Cell::Float(_));
                match hider.is_secret(column) && !(is_number && is_count(column)) {
                    true => hidden(cell, hider),
                    false => Shape::show(cell, hider),
                }
            });
            Value::Array(cells.collect())
        });
        json!({ "columns": self.columns, "rows": Value::Array(rows.collect()) })
    }

    fn read(value: &Value) -> Option<Self> {
        Some(Self { columns: Shape::read(value.get("columns")?)?, rows: Shape::read(value.get("rows")?)? })
    }
}

impl Shape for Message {
    fn bytes(&self) -> usize {
        let rest = [&self.key, &self.organization_id, &self.id].map(Shape::bytes);
        OVERHEAD_BYTES + self.data.len() + self.type_.len() + rest.iter().sum::<usize>()
    }

    fn show(&self, hider: &Hider) -> Value {
        json!({
            "type": self.type_, "data": hider.text(&self.data), "key": self.key, "organizationId": self.organization_id,
            "id": self.id,
        })
    }

    fn read(value: &Value) -> Option<Self> {
        let part = |member: &str| Shape::read(value.get(member).unwrap_or(&Value::Null));
        Some(Self {
            type_: Shape::read(value.get("type")?)?,
            data: Shape::read(value.get("data")?)?,
            key: part("key")?,
            organization_id: part("organizationId")?,
            id: part("id")?,
        })
    }
}

impl Shape for mail::Message {
    fn bytes(&self) -> usize {
        let html = self.html.as_ref().map_or(0, String::len);
        let rest = Shape::bytes(&self.to) + Shape::bytes(&self.reply_to);
        OVERHEAD_BYTES + rest + self.subject.len() + self.text.len() + html
    }

    fn show(&self, hider: &Hider) -> Value {
        json!({
            "to": self.to, "subject": self.subject, "text": hider.text(&self.text), "html": self.html,
            "replyTo": self.reply_to,
        })
    }

    fn read(value: &Value) -> Option<Self> {
        let part = |member: &str| Shape::read(value.get(member).unwrap_or(&Value::Null));
        Some(Self {
            to: Shape::read(value.get("to")?)?,
            subject: Shape::read(value.get("subject")?)?,
            text: Shape::read(value.get("text")?)?,
            html: part("html")?,
            reply_to: part("replyTo")?,
        })
    }
}

/// The arguments of one function, in their order.
macro_rules! arguments {
    ($(($($name:ident $at:tt),+);)*) => {
        $(impl<$($name: Shape),+> Shape for ($($name,)+) {
            fn bytes(&self) -> usize {
                0 $(+ self.$at.bytes())+
            }

            fn show(&self, hider: &Hider) -> Value {
                Value::Array(vec![$(Shape::show(&self.$at, hider)),+])
            }

            fn read(value: &Value) -> Option<Self> {
                Some(($(Shape::read(value.get($at)?)?,)+))
            }

            fn wipe(&mut self) {
                $(self.$at.wipe();)+
            }
        })*
    };
}

arguments! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<T: Shape + std::fmt::Debug>(value: T) {
        let shown = Shape::show(&value, &Hider::default());
        let again = T::read(&shown).map(|value| Shape::show(&value, &Hider::default()));
        assert_eq!(again, Some(shown), "{value:?}");
        assert!(value.bytes() > 0);
    }

    #[test]
    fn everything_a_function_takes_or_answers_comes_back() {
        let cells = vec![
            Cell::Null,
            Cell::Boolean(true),
            Cell::Integer(i64::MIN),
            Cell::Float(0.1),
            Cell::Float(f64::INFINITY),
            Cell::Text("a".into()),
            Cell::Bytes(vec![0xff]),
            Cell::Timestamp("2026-01-31T08:15:00.000Z".into()),
            Cell::Json("{\"a\":1}".into()),
        ];
        let columns = ('a'..='i').map(String::from).collect();
        comes_back::<Result<Rows, Fault>>(Ok(Rows { columns, rows: vec![cells.clone()] }));
        comes_back(("SELECT 1".to_owned(), cells));
        comes_back::<Result<Vec<Option<Vec<u8>>>, Fault>>(Ok(vec![None, Some(b"x".to_vec())]));
        for fault in [
            Fault::Denied("d".into()),
            Fault::Conflict("c".into()),
            Fault::TooLarge("t".into()),
            Fault::Invalid("i".into()),
            Fault::Busy,
            Fault::Unavailable,
            Fault::Timeout,
        ] {
            comes_back::<Result<(), Fault>>(Err(fault));
        }
        let message =
            Message { type_: "a.b".into(), data: "{}".into(), key: None, organization_id: None, id: Some("1".into()) };
        comes_back((message, 7_u64));
        let mail = mail::Message {
            to: vec!["a@b.example".into()],
            subject: "s".into(),
            text: "t".into(),
            html: None,
            reply_to: Some("r".into()),
        };
        comes_back((mail,));
    }

    #[test]
    fn every_text_of_a_message_takes_room() {
        let long = || Some("x".repeat(1_000));
        let message =
            Message { type_: "a.b".into(), data: "{}".into(), key: long(), organization_id: long(), id: long() };
        assert!(Shape::bytes(&message) > 3_000);
        let mail = mail::Message {
            to: Vec::new(),
            subject: String::new(),
            text: String::new(),
            html: long(),
            reply_to: long(),
        };
        assert!(Shape::bytes(&mail) > 2_000);
    }

    #[test]
    fn a_secret_column_keeps_its_type() {
        let rows = Rows {
            columns: ["password_hash", "token_count", "api_token", "secret", "token_expires_at"]
                .map(String::from)
                .to_vec(),
            rows: vec![vec![
                Cell::Text("argon2-something".into()),
                Cell::Integer(7),
                Cell::Integer(12_345_678),
                Cell::Bytes(vec![1, 2, 3, 4]),
                Cell::Timestamp("2026-01-31T08:15:00.000Z".into()),
            ]],
        };
        let shown = Shape::show(&rows, &Hider::default());
        let expected =
            json!([["[redacted]", 7, 0, {"bytes": {"utf8": "[redacted]"}}, {"timestamp": "2026-01-31T08:15:00.000Z"}]]);
        assert_eq!(shown["rows"], expected);
    }

    #[test]
    fn nothing_of_the_secrets_room_is_shown() {
        let hider = Hider::default();
        let arguments = Private { value: (b"s3cr3t-plain".to_vec(), "row-1".to_owned()), secrecy: Secrecy::Secret };
        assert_eq!(Kept::show(&arguments, &hider), json!([{ "redacted": 10 }, "row-1"]));
        let mac = Private { value: Ok::<_, Fault>(vec![7_u8; 32]), secrecy: Secrecy::Mac };
        let shown = Kept::show(&mac, &hider);
        assert_eq!(shown, json!({ "ok": { "redacted": 32 } }));
        assert_eq!(<Result<Vec<u8>, Fault>>::read(&shown).unwrap().unwrap().len(), 32);
        let signed =
            Private { value: ("key".to_owned(), br#"{"order":"of a customer"}"#.to_vec()), secrecy: Secrecy::Mac };
        assert_eq!(Kept::show(&signed, &hider), json!(["key", { "redacted": 10 }]));
        let mut later = json!(["it says s3cr3t-plain", hex::encode([7_u8; 32]), "of a customer"]);
        hider.scrub(&mut later).unwrap();
        assert_eq!(later, json!(["it says [redacted]", hex::encode(marker(32)), "of a customer"]));
    }
}
