//! Server-sent events out of a body that comes piece by piece.

/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty is `message`.
    pub name: String,
    /// What a client repeats as `Last-Event-ID`.
    pub id: Option<String>,
    /// Its lines, joined.
    pub data: String,
}

/// Reads events as their bytes come.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    event: Event,
    has_field: bool,
    /// How long to wait before coming back, in milliseconds, as the server said last.
    pub retry_ms: Option<u64>,
    /// The last id that came with a whole event.
    pub last_id: Option<String>,
}

/// An event was larger than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Reader {
    /// The events that these bytes complete.
    ///
    /// # Errors
    /// When one has more than 4 MiB.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > EVENT_BYTES_MAX {
                    return Err(TooLarge);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            events.extend(self.line(&line)?);
        }
        Ok(events)
    }

    /// For the same stream, taken up again: what was half read is forgotten, and where it was is not.
    #[must_use]
    pub fn again(self) -> Self {
        Self { last_id: self.last_id, retry_ms: self.retry_ms, ..Self::default() }
    }

    fn line(&mut self, line: &str) -> Result<Option<Event>, TooLarge> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if !std::mem::take(&mut self.has_field) {
                return Ok(None);
            }
            if event.id.is_some() {
                self.last_id.clone_from(&event.id);
            }
            return Ok(Some(Event { data: event.data.strip_suffix('\n').unwrap_or(&event.data).to_string(), ..event }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
                self.has_field = true;
            }
            "event" => {
                self.event.name = value.to_string();
                self.has_field = true;
            }
            "id" if !value.contains('\0') => {
                self.event.id = Some(value.to_string());
                self.has_field = true;
            }
            "retry" => self.retry_ms = value.parse().ok().or(self.retry_ms),
            // Comments and what nobody knows.
            _ => {}
        }
        if self.event.data.len() > EVENT_BYTES_MAX { Err(TooLarge) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str =
        ": hello\r\nretry: 250\nid: 7\nevent: note\ndata: a\ndata:b\n\ndata: {\"x\":1}\n\nid: 9\ndata:\n\n\n";

    #[test]
    fn fields_make_events() {
        let mut reader = Reader::default();
        let events = reader.push(TEXT.as_bytes()).unwrap();
        assert_eq!(events[0], Event { name: "note".into(), id: Some("7".into()), data: "a\nb".into() });
        assert_eq!((events[1].name.as_str(), events[1].data.as_str()), ("", "{\"x\":1}"));
        assert_eq!((events.len(), events[2].data.as_str()), (3, ""));
        assert_eq!((reader.retry_ms, reader.last_id.as_deref()), (Some(250), Some("9")));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(cut in 0usize..80, bytes: Vec<u8>) {
            let mut whole = Reader::default();
            let mut parted = Reader::default();
            let (first, rest) = TEXT.as_bytes().split_at(cut.min(TEXT.len()));
            let mut events = parted.push(first).unwrap();
            events.extend(parted.push(rest).unwrap());
            prop_assert_eq!(whole.push(TEXT.as_bytes()).unwrap(), events);
            // Anything else is read without harm.
            let _ = whole.push(&bytes);
        }
    }
}
