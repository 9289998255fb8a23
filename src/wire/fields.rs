//! Protobuf fields, read one by one without copying.
//!
//! Strict where senders have no business to be odd: groups, unknown wire types, field number 0 and varints
//! over 64 bits are errors. Source: <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are not the protobuf message they should be. Offsets count from the start of the request.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyntaxError {
    /// A field reaches beyond the end of its message.
    #[error("protobuf: message ends inside the field at byte {at}")]
    Truncated {
        /// Offset in bytes.
        at: usize,
    },
    /// A varint of more than 64 bits.
    #[error("protobuf: varint at byte {at} exceeds 64 bits")]
    Varint {
        /// Offset in bytes.
        at: usize,
    },
    /// A key with field number 0, over 29 bits of field number, or a wire type that does not exist.
    #[error("protobuf: invalid key at byte {at}")]
    Key {
        /// Offset in bytes.
        at: usize,
    },
    /// A group, which no remote-write message has.
    #[error("protobuf: group at byte {at}, and remote write has none")]
    Group {
        /// Offset in bytes.
        at: usize,
    },
    /// A known field of another wire type than the schema has.
    #[error("protobuf: field {field} at byte {at} is not of wire type {expected:?}")]
    WireType {
        /// Offset in bytes.
        at: usize,
        /// Number of the field.
        field: u32,
        /// Wire type by the schema.
        expected: WireType,
    },
    /// More bytes than offsets of 32 bits reach.
    #[error("protobuf: request of {size} bytes exceeds 4 GiB")]
    TooLong {
        /// Bytes.
        size: usize,
    },
}

/// How a field is written. Small, since every read returns room for an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireType {
    /// A number of variable length, or packed numbers.
    Varint,
    /// Eight bytes, or packed eights.
    Fixed64,
    /// A length and as many bytes.
    LengthDelimited,
}

/// A range of the request, in bounds by construction.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// The bytes of `request` that this stands for.
    #[inline]
    pub(super) fn of(self, request: &[u8]) -> &[u8] {
        &request[self.start as usize..self.end as usize]
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Offset of the key.
    pub(super) at: usize,
    pub(super) value: Value,
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Varint(u64),
    Fixed64(u64),
    Bytes(Span),
    Fixed32,
}

impl Field {
    #[inline]
    pub(super) fn varint(self) -> Result<u64, SyntaxError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(self.wrong_type(WireType::Varint)),
        }
    }

    #[inline]
    pub(super) fn double(self) -> Result<f64, SyntaxError> {
        match self.value {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wrong_type(WireType::Fixed64)),
        }
    }

    #[inline]
    pub(super) fn bytes(self) -> Result<Span, SyntaxError> {
        match self.value {
            Value::Bytes(span) => Ok(span),
            _ => Err(self.wrong_type(WireType::LengthDelimited)),
        }
    }

    /// Hands the varints of a repeated field to `each`, packed or not.
    pub(super) fn varints(self, request: &[u8], mut each: impl FnMut(u64)) -> Result<(), SyntaxError> {
        match self.value {
            Value::Varint(number) => each(number),
            Value::Bytes(span) => {
                let mut packed = Fields::within(request, span);
                while !packed.is_at_end() {
                    each(packed.varint()?);
                }
            }
            _ => return Err(self.wrong_type(WireType::Varint)),
        }
        Ok(())
    }

    /// Hands the doubles of a repeated field to `each`, packed or not.
    pub(super) fn doubles(self, request: &[u8], mut each: impl FnMut(f64)) -> Result<(), SyntaxError> {
        match self.value {
            Value::Fixed64(bits) => each(f64::from_bits(bits)),
            Value::Bytes(span) => {
                let (doubles, rest) = span.of(request).as_chunks();
                if !rest.is_empty() {
                    return Err(SyntaxError::Truncated { at: self.at });
                }
                doubles.iter().for_each(|double| each(f64::from_le_bytes(*double)));
            }
            _ => return Err(self.wrong_type(WireType::Fixed64)),
        }
        Ok(())
    }

    fn wrong_type(self, expected: WireType) -> SyntaxError {
        SyntaxError::WireType { at: self.at, field: self.number, expected }
    }
}

/// Reads the fields of one message.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    /// The request up to the end of the message, so that offsets are those of the request.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Reads all of `request`, which must be under 4 GiB.
    pub(super) fn over(request: &'a [u8]) -> Result<Self, SyntaxError> {
        match u32::try_from(request.len()) {
            Ok(_) => Ok(Self { bytes: request, at: 0 }),
            Err(_) => Err(SyntaxError::TooLong { size: request.len() }),
        }
    }

    /// Reads the message that stands at `span` of `request`.
    #[inline]
    pub(super) fn within(request: &'a [u8], span: Span) -> Self {
        Self { bytes: &request[..span.end as usize], at: span.start as usize }
    }

    /// Offset of what is read next.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next field, or `None` at the end of the message.
    #[inline]
    pub(super) fn next_field(&mut self) -> Result<Option<Field>, SyntaxError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let at = self.at;
        let key = u32::try_from(self.varint()?).map_err(|_| SyntaxError::Key { at })?;
        let number = key >> 3;
        if number == 0 {
            return Err(SyntaxError::Key { at });
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.length_delimited()?),
            3 | 4 => return Err(SyntaxError::Group { at }),
            5 => {
                self.skip(4)?;
                Value::Fixed32
            }
            _ => return Err(SyntaxError::Key { at }),
        };
        Ok(Some(Field { number, at, value }))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, SyntaxError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, SyntaxError> {
        let tail = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = tail.first_chunk::<8>().ok_or(SyntaxError::Truncated { at: self.at })?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn long_varint(&mut self) -> Result<u64, SyntaxError> {
        let mut number = 0;
        for (index, &byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte has room for the highest bit alone.
                if index == 9 && byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok(number);
            }
        }
        match self.bytes.len() - self.at {
            0..10 => Err(SyntaxError::Truncated { at: self.at }),
            _ => Err(SyntaxError::Varint { at: self.at }),
        }
    }

    #[inline]
    fn length_delimited(&mut self) -> Result<Span, SyntaxError> {
        let length = self.varint()?;
        let start = self.at;
        self.skip(length)?;
        Ok(Span { start: start as u32, end: self.at as u32 })
    }

    #[inline]
    fn skip(&mut self, length: u64) -> Result<(), SyntaxError> {
        if length > (self.bytes.len() - self.at) as u64 {
            return Err(SyntaxError::Truncated { at: self.at });
        }
        self.at += length as usize;
        Ok(())
    }
}

/// Appends `number` in the fewest bytes.
pub(super) fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Bytes that [`push_varint`] appends for `number`.
pub(super) fn varint_len(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let mut fields = Fields::over(bytes).unwrap();
        let mut seen = String::new();
        let end = loop {
            match fields.next_field() {
                Ok(Some(Field { number, value: Value::Bytes(span), .. })) => {
                    seen += &format!("{number}:{:?} ", span.of(bytes));
                }
                Ok(Some(Field { number, value, .. })) => seen += &format!("{number}:{value:?} "),
                Ok(None) => break "end".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(seen + &end, expected);
    }

    #[test]
    fn fields_come_in_order_with_their_numbers() {
        check(&[], "end");
        check(&[0x0a, 2, 7, 8, 0x10, 0x96, 1], "1:[7, 8] 2:Varint(150) end");
        check(
            &[0x09, 0, 0, 0, 0, 0, 0, 0, 1, 0x0d, 0, 0, 0, 0],
            "1:Fixed64(72057594037927936) 1:Fixed32 end",
        );
    }

    #[test]
    fn a_field_that_outlasts_its_message_is_an_error() {
        check(&[0x0a], "protobuf: message ends inside the field at byte 1");
        check(&[0x0a, 3, 1, 2], "protobuf: message ends inside the field at byte 2");
        check(&[0x09, 1, 2], "protobuf: message ends inside the field at byte 1");
        check(&[0x0d, 1, 2], "protobuf: message ends inside the field at byte 1");
        check(&[0x10, 0x80], "protobuf: message ends inside the field at byte 1");
        check(
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "protobuf: message ends inside the field at byte 11",
        );
    }

    #[test]
    fn groups_and_impossible_keys_are_errors() {
        check(&[0x0b, 0x0c], "protobuf: group at byte 0, and remote write has none");
        check(&[0x0c], "protobuf: group at byte 0, and remote write has none");
        check(&[0x02, 0], "protobuf: invalid key at byte 0");
        check(&[0x0e], "protobuf: invalid key at byte 0");
        check(&[0x88, 0x80, 0x80, 0x80, 0x10, 0], "protobuf: invalid key at byte 0");
    }

    #[test]
    fn a_varint_has_64_bits_at_most() {
        let mut widest = vec![0x10];
        push_varint(&mut widest, u64::MAX);
        check(&widest, "2:Varint(18446744073709551615) end");
        widest[10] = 2;
        check(&widest, "protobuf: varint at byte 1 exceeds 64 bits");
    }

    #[test]
    fn the_length_of_a_varint_is_foreseen() {
        for bits in 0..64 {
            for number in [1 << bits, (1 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = Vec::new();
                push_varint(&mut bytes, number);
                assert_eq!(varint_len(number), bytes.len(), "{number}");
            }
        }
    }
}
