//! Reads the query into a type: every value arrives as text and becomes what the type wants.

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, IntoDeserializer, value::MapDeserializer},
    forward_to_deserialize_any,
};

use crate::{
    problem::{Problem, Result},
    validate::FieldError,
};

/// The most parameters a query may have; further ones are left out.
const PAIRS_MAX: usize = 200;

/// The decoded pairs of a query, in their order.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).take(PAIRS_MAX).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
    })
}

/// Undoes percent-encoding; what is not valid UTF-8 afterwards becomes U+FFFD.
pub(crate) fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_string();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok()))
            .flatten()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a query into a type; 400 with the name of the parameter otherwise. Empty values count as absent.
pub(crate) fn read<T: DeserializeOwned>(query: &str) -> Result<T> {
    let entries: Vec<(String, String)> = pairs(query).filter(|(_, value)| !value.is_empty()).collect();
    let parts = entries.into_iter().map(|(name, value)| (name.clone(), Part { name, value }));
    T::deserialize(MapDeserializer::new(parts)).map_err(|fault: QueryFault| Problem::validation(vec![fault.0]))
}

struct Part {
    name: String,
    value: String,
}

#[derive(Debug)]
struct QueryFault(FieldError);

impl std::fmt::Display for QueryFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.0.field, self.0.message)
    }
}

impl std::error::Error for QueryFault {}

impl de::Error for QueryFault {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self(FieldError::new("query", message.to_string()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(FieldError::new(field, "is required"))
    }
}

impl Part {
    fn fault(&self, message: &str) -> QueryFault {
        QueryFault(FieldError::new(self.name.clone(), message))
    }
}

/// Names the parameter in a fault that does not know it.
fn named<T>(name: String, result: Result<T, QueryFault>) -> Result<T, QueryFault> {
    result.map_err(|mut fault| {
        if fault.0.field == "query" {
            fault.0.field = name;
        }
        fault
    })
}

impl IntoDeserializer<'_, QueryFault> for Part {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $kind:ty),*) => {$(
        fn $method<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
            match self.value.parse::<$kind>() {
                Ok(number) => named(self.name, visitor.$visit(number)),
                Err(_) => Err(self.fault("must be a number")),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Part {
    type Error = QueryFault;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
        named(self.name, visitor.visit_string(self.value))
    }

    fn deserialize_bool<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
        match self.value.as_str() {
            "true" | "1" => visitor.visit_bool(true),
            "false" | "0" => visitor.visit_bool(false),
            _ => Err(self.fault("must be true or false")),
        }
    }

    numbers!(
        deserialize_i8 visit_i64 i64, deserialize_i16 visit_i64 i64, deserialize_i32 visit_i64 i64,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u64 u64, deserialize_u16 visit_u64 u64,
        deserialize_u32 visit_u64 u64, deserialize_u64 visit_u64 u64
    );

    fn deserialize_f32<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
        match self.value.parse::<f64>() {
            // JSON knows neither infinity nor NaN, which Rust reads as numbers.
            Ok(number) if number.is_finite() => named(self.name, visitor.visit_f64(number)),
            _ => Err(self.fault("must be a number")),
        }
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
        // A type that reads a text itself, such as a time, does not know which parameter it is.
        named(self.name.clone(), visitor.visit_some(self))
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, QueryFault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, QueryFault> {
        let text: de::value::StringDeserializer<QueryFault> = self.value.into_deserializer();
        named(self.name, visitor.visit_enum(text))
    }

    /// A list is written `a,b,c`.
    fn deserialize_seq<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, QueryFault> {
        let Self { name, value } = self;
        let parts: Vec<Part> =
            value.split(',').map(|entry| Part { name: name.clone(), value: entry.trim().to_string() }).collect();
        visitor.visit_seq(de::value::SeqDeserializer::new(parts.into_iter()))
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, read};
    use crate::{choice, data};

    #[choice]
    enum Order {
        Asc,
        Desc,
    }

    #[data]
    struct Wish {
        after_sequence: Option<i64>,
        limit: Option<u32>,
        order: Option<Order>,
        kinds: Option<Vec<String>>,
        dry: Option<bool>,
        since: Option<crate::clock::Timestamp>,
        share: Option<f64>,
    }

    #[test]
    fn texts_become_what_the_type_wants() {
        let wish: Wish = read("afterSequence=7&limit=&order=desc&kinds=a,b&dry=true&other=1").unwrap();
        assert_eq!(wish.after_sequence, Some(7));
        assert_eq!(wish.limit, None);
        assert_eq!(wish.order, Some(Order::Desc));
        assert_eq!(wish.kinds.unwrap(), ["a", "b"]);
        assert_eq!(wish.dry, Some(true));
        assert_eq!(Order::Asc.as_str(), "asc");
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for query in ["limit=x", "limit=-1", "order=up", "since=noon", "share=NaN", "share=inf"] {
            let problem = read::<Wish>(query).unwrap_err();
            assert_eq!(problem.status, 400);
            assert_eq!(problem.errors[0].field, query.split('=').next().unwrap());
        }
    }

    #[test]
    fn percent_signs_are_undone_and_broken_ones_are_kept() {
        assert_eq!(decode("a%20b%2Fc"), "a b/c");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
