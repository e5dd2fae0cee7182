//! Binary strings of the tracker protocol: twenty bytes, written as twenty characters from U+0000 to U+00FF.

use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// An info hash, or the id of a peer: twenty bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binary(pub [u8; 20]);

/// A text that is not twenty characters of one byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("20 characters from U+0000 to U+00FF are expected")]
pub struct NotBinary;

impl Binary {
    /// Reads decoded text, that is, without quotes and escapes.
    ///
    /// # Errors
    /// [`NotBinary`].
    pub fn from_text(text: &str) -> Result<Self, NotBinary> {
        let mut bytes = [0; 20];
        if text.is_ascii() {
            // Nearly all: p2p-media-loader writes base64, and half of every peer id is a version and digits.
            bytes.copy_from_slice(text.as_bytes().get(..20).filter(|_| text.len() == 20).ok_or(NotBinary)?);
            return Ok(Self(bytes));
        }
        let mut chars = text.chars();
        for byte in &mut bytes {
            *byte = chars.next().and_then(|c| u8::try_from(u32::from(c)).ok()).ok_or(NotBinary)?;
        }
        chars.next().map_or(Ok(Self(bytes)), |_| Err(NotBinary))
    }

    /// Reads a string as it stands in JSON, with its quotes.
    ///
    /// # Errors
    /// [`NotBinary`].
    pub fn from_json(json: &str) -> Result<Self, NotBinary> {
        let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(NotBinary)?;
        if inner.contains('\\') {
            return serde_json::from_str(json).map_err(|_| NotBinary);
        }
        Self::from_text(inner)
    }

    /// Appends it as a JSON string, with its quotes.
    pub fn write_json(&self, out: &mut String) {
        const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        out.push('"');
        for &byte in &self.0 {
            match byte {
                b'"' => out.push_str("\\\""),
                b'\\' => out.push_str("\\\\"),
                0..0x20 => {
                    out.push_str("\\u00");
                    out.push(HEX[usize::from(byte >> 4)]);
                    out.push(HEX[usize::from(byte & 15)]);
                }
                _ => out.push(char::from(byte)),
            }
        }
        out.push('"');
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binary({self})")
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.iter().copied().map(char::from).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Binary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{NotBinary}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Binary, E> {
                Binary::from_text(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(binary: Binary) -> String {
        let mut out = String::new();
        binary.write_json(&mut out);
        out
    }

    #[test]
    fn every_byte_survives_being_written_and_read() {
        for start in 0..=236_u8 {
            let binary = Binary(core::array::from_fn(|i| start + u8::try_from(i).unwrap()));
            assert_eq!(Binary::from_json(&json(binary)), Ok(binary));
            let parsed: String = serde_json::from_str(&json(binary)).unwrap();
            assert_eq!(parsed.chars().count(), 20);
        }
    }

    #[test]
    fn characters_are_counted_and_not_bytes() {
        assert_eq!(Binary::from_text(&"ÿ".repeat(20)), Ok(Binary([0xff; 20])));
        assert_eq!(
            Binary::from_json(r#""\u0000\u00ff\"\\aaaaaaaaaaaaaaaa""#).unwrap().0[..5],
            [0, 255, b'"', b'\\', b'a']
        );
        for bad in ["", "a", "aaaaaaaaaaaaaaaaaaaaa", "ÿÿÿÿÿÿÿÿÿÿ", "Āaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(Binary::from_text(bad), Err(NotBinary), "{bad}");
        }
        for bad in ["", "\"", "12", "null", "\"aaaaaaaaaaaaaaaaaaaa", "[]"] {
            assert_eq!(Binary::from_json(bad), Err(NotBinary), "{bad}");
        }
    }
}
