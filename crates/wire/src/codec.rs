//! postcard's encoding, for the types of this crate: varints, raw bytes, an index for a variant, a length before a list.
//!
//! Written out instead of derived, because serde's machinery alone outweighs half of the engine in the browser's download.
//! `tests/codecs.rs` holds it to the postcard crate, for what it writes and for what it refuses.

use alloc::string::String;
use alloc::vec::Vec;

/// A value that travels.
pub(crate) trait Wire: Sized {
    /// Appends the value.
    fn put(&self, to: &mut Vec<u8>);

    /// Takes a value off the front; `None` where there is none, and then what is left of `from` means nothing.
    fn take(from: &mut &[u8]) -> Option<Self>;
}

fn put_varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// A varint of an integer of `bits` bits. One that is longer than its largest value needs is refused.
fn take_varint(from: &mut &[u8], bits: u32) -> Option<u64> {
    let mut value = 0;
    let mut shift = 0;
    while shift < bits {
        let byte = u64::from(u8::take(from)?);
        let part = byte & 0x7f;
        value |= part << shift;
        if byte == part {
            let room = bits - shift;
            return (room >= 7 || part >> room == 0).then_some(value);
        }
        shift += 7;
    }
    None
}

impl Wire for u8 {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(*self);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let (first, rest) = from.split_first()?;
        *from = rest;
        Some(*first)
    }
}

macro_rules! varint {
    ($($integer:ident)*) => {$(
        impl Wire for $integer {
            fn put(&self, to: &mut Vec<u8>) {
                put_varint(u64::from(*self), to);
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                take_varint(from, Self::BITS).map(|value| value as Self)
            }
        }
    )*};
}
varint!(u16 u32 u64);

impl Wire for bool {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Wire for [u8; 32] {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = from.split_first_chunk()?;
        *from = rest;
        Some(*bytes)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        if let Some(value) = self {
            value.put(to);
        }
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        if bool::take(from)? { T::take(from).map(Some) } else { Some(None) }
    }
}

/// Every item has at least a byte, so that what is taken off bounds what is allocated.
impl<T: Wire> Wire for Vec<T> {
    fn put(&self, to: &mut Vec<u8>) {
        put_varint(self.len() as u64, to);
        for item in self {
            item.put(to);
        }
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut left = take_varint(from, usize::BITS)?;
        let mut items = Self::new();
        while left > 0 {
            items.push(T::take(from)?);
            left -= 1;
        }
        Some(items)
    }
}

impl Wire for String {
    fn put(&self, to: &mut Vec<u8>) {
        put_varint(self.len() as u64, to);
        to.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(Vec::take(from)?).ok()
    }
}

/// Gives a struct its encoding: the fields, in this order.
macro_rules! wire_struct {
    ($name:ident { $($field:tt),* }) => {
        impl crate::codec::Wire for $name {
            fn put(&self, to: &mut alloc::vec::Vec<u8>) {
                $(crate::codec::Wire::put(&self.$field, to);)*
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: crate::codec::Wire::take(from)?),* })
            }
        }
    };
}

/// Gives an enum its encoding: the index of the variant, then its fields in this order. A tuple's fields are named by
/// their place.
macro_rules! wire_enum {
    ($name:ident { $($index:literal => $variant:ident $({ $($field:tt : $as:ident),* })?),* $(,)? }) => {
        impl crate::codec::Wire for $name {
            fn put(&self, to: &mut alloc::vec::Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field: $as),* })? => {
                        // No enum has so many variants that its index fills more than a byte.
                        to.push($index);
                        $($(crate::codec::Wire::put($as, to);)*)?
                    })*
                }
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                match <u32 as crate::codec::Wire>::take(from)? {
                    $($index => Some(Self::$variant $({ $($field: crate::codec::Wire::take(from)?),* })?),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {wire_enum, wire_struct};
