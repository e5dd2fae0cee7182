//! As much of STUN (RFC 8489) as it takes to tell whose datagram one is.

/// The bytes of a STUN header.
const HEADER_LEN: usize = 20;

/// What bytes 4 to 8 of every STUN message are.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The attribute that names both sides of an ICE check.
const USERNAME: u16 = 0x0006;

/// What joins a request and its answer.
pub(super) type TransactionId = [u8; 12];

/// A STUN message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stun<'a> {
    /// A Binding request; of an ICE check where it has a user name.
    Request { transaction: TransactionId, username: Option<&'a [u8]> },
    /// A Binding response, of either kind.
    Response { transaction: TransactionId },
    /// Anything else.
    Other,
}

/// Reads a datagram; `None` where it is no STUN message.
pub(super) fn parse(datagram: &[u8]) -> Option<Stun<'_>> {
    let (header, attributes) = datagram.split_at_checked(HEADER_LEN)?;
    if header[0] > 3 || header[4..8] != MAGIC_COOKIE {
        return None;
    }
    let mut transaction = TransactionId::default();
    transaction.copy_from_slice(&header[8..]);
    Some(match u16::from_be_bytes([header[0], header[1]]) {
        0x0001 => Stun::Request { transaction, username: username(attributes) },
        0x0101 | 0x0111 => Stun::Response { transaction },
        _ => Stun::Other,
    })
}

fn username(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let (head, rest) = attributes.split_at_checked(4)?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..len)?;
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            return Some(value);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
}

/// The receiver's own half of the user name of an ICE check.
pub(super) fn receiver(username: &[u8]) -> &[u8] {
    username.split(|byte| *byte == b':').next().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn request(username: &str) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0];
        message.extend_from_slice(&MAGIC_COOKIE);
        message.extend_from_slice(&[7; 12]);
        message.extend_from_slice(&[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        message.extend_from_slice(&[0, 6, 0, username.len() as u8]);
        message.extend_from_slice(username.as_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    #[test]
    fn a_check_names_its_receiver() {
        let message = request("mine:theirs");
        let Some(Stun::Request { transaction, username: Some(username) }) = parse(&message) else { panic!() };
        assert_eq!((transaction, receiver(username)), ([7; 12], &b"mine"[..]));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let message = request("mine:theirs");
        for len in 0..message.len() {
            let _ = parse(&message[..len]);
            let mut changed = message.clone();
            changed[len] = 0xff;
            let _ = parse(&changed);
        }
        assert_eq!(parse(&[22, 254, 253]), None);
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
    }
}
