//! PostgreSQL's NUMERIC on the wire: digits in base 10 000.
//!
//! No column has this type here, but `SUM` of integers and `AVG` answer it, and a parameter compared with them takes
//! it. A whole number that fits becomes an integer, anything else a float.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, Postgres};
use sqlx::{Encode, Type};

use super::super::collect::Cell;

const NEGATIVE: u16 = 0x4000;
/// Values that are no numbers have this bit (NaN and the infinities).
const SPECIAL: u16 = 0x8000;
/// The type's fixed object id.
const NUMERIC: Oid = Oid(1700);
/// Decimal digits in one digit of the wire.
const GROUP: usize = 4;

/// Reads one; None when the bytes are malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<Cell<'static>> {
    let mut words = bytes.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    let count = words.next()?;
    let weight = i32::from(words.next()?.cast_signed());
    let sign = words.next()?;
    let scale = words.next()?;
    if sign & SPECIAL != 0 {
        return Some(Cell::Float(f64::NAN));
    }
    let digits: Vec<u16> = words.take(usize::from(count)).collect();
    if digits.len() != usize::from(count) {
        return None;
    }
    if scale == 0
        && let Some(whole) = whole(&digits, weight, sign == NEGATIVE)
    {
        return Some(Cell::Integer(whole));
    }
    let exponent = (weight - i32::from(count) + 1) * 4;
    let text: String = digits.iter().map(|digit| format!("{digit:04}")).collect();
    let minus = if sign == NEGATIVE { "-" } else { "" };
    // Reading decimal text rounds correctly, which adding up powers would not.
    format!("{minus}{}e{exponent}", if text.is_empty() { "0" } else { &text }).parse().ok().map(Cell::Float)
}

fn whole(digits: &[u16], weight: i32, negative: bool) -> Option<i64> {
    let mut number: i128 = 0;
    for position in 0..=weight.max(-1) {
        let digit = usize::try_from(position).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0);
        number = number.checked_mul(10_000)?.checked_add(i128::from(digit))?;
    }
    i64::try_from(if negative { -number } else { number }).ok()
}

/// A parameter, from decimal text without an exponent.
pub(super) struct Numeric(pub String);

impl Type<Postgres> for Numeric {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(NUMERIC)
    }
}

impl Encode<'_, Postgres> for Numeric {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (sign, text) = match self.0.strip_prefix('-') {
            Some(text) => (NEGATIVE, text),
            None => (0, self.0.as_str()),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let padding = (GROUP - whole.len() % GROUP) % GROUP;
        let mut decimal = "0".repeat(padding) + whole + fraction;
        while !decimal.len().is_multiple_of(GROUP) {
            decimal.push('0');
        }
        let groups = (padding + whole.len()) / GROUP;
        let mut digits = Vec::with_capacity(decimal.len() / GROUP);
        for group in decimal.as_bytes().chunks(GROUP) {
            digits.push(std::str::from_utf8(group)?.parse::<u16>()?);
        }
        let count = u16::try_from(digits.len())?;
        buffer.extend_from_slice(&count.to_be_bytes());
        buffer.extend_from_slice(&i16::try_from(groups)?.saturating_sub(1).to_be_bytes());
        buffer.extend_from_slice(&sign.to_be_bytes());
        buffer.extend_from_slice(&u16::try_from(fraction.len())?.to_be_bytes());
        for digit in digits {
            buffer.extend_from_slice(&digit.to_be_bytes());
        }
        Ok(IsNull::No)
    }
}
