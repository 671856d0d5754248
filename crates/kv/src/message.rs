//! The messages between a store and the program that reaches a shared store for it, over a
//! pair of pipes. Neither side trusts the lengths that the other sends.

use std::io::{self, Read, Write};

/// Maximum length of a body, in bytes. A block of the largest models has a tenth of it.
pub(crate) const MOST: u32 = 256 << 20;

/// Bytes of verb, number, length of the name and length of the body.
const HEAD: usize = 1 + 4 + 2 + 4;

/// The kind of a message: a request to the program, or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShareVerb {
    /// Request: open the store. The body is what its mark must contain.
    Open = 1,
    /// Request: the objects named in the body, one a line, up to the first that is missing.
    Get = 2,
    /// Request: store the body under this name.
    Put = 3,
    /// Request: remove this object, whose content is not what its name says.
    Remove = 4,
    /// Request: remove all objects whose names begin with this name.
    Forget = 5,
    /// Answer: the store is open; if there is a name, it is an error text instead.
    Opened = 6,
    /// Answer: an object.
    Found = 7,
    /// Answer: the end of a [`ShareVerb::Get`] or a [`ShareVerb::Forget`], for which the body
    /// is the number of objects. A name is an error text.
    End = 8,
    /// Answer: the object is stored; if there is a name, it is an error text instead.
    Stored = 9,
}

impl ShareVerb {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Open,
            Self::Get,
            Self::Put,
            Self::Remove,
            Self::Forget,
            Self::Opened,
            Self::Found,
            Self::End,
            Self::Stored,
        ];
        all.into_iter().find(|verb| *verb as u8 == byte)
    }
}

/// A message, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMessage {
    /// Its kind.
    pub verb: ShareVerb,
    /// The number of the request, which its answers repeat.
    pub number: u32,
    /// The name of an object, or an error text.
    pub name: String,
    /// The bytes of an object, or what the verb says.
    pub body: Vec<u8>,
}

impl ShareMessage {
    /// A message with an empty body.
    pub fn new(verb: ShareVerb, number: u32, name: impl Into<String>) -> Self {
        Self {
            verb,
            number,
            name: name.into(),
            body: Vec::new(),
        }
    }

    /// The same message with that body.
    pub fn with(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    /// # Errors
    /// Those of writing; `InvalidInput` if the name or the body is too long.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (name, body) = (self.name.len(), self.body.len());
        let lengths = (u16::try_from(name), u32::try_from(body));
        let (Ok(name), Ok(body @ ..=MOST)) = lengths else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut head = Vec::with_capacity(HEAD + self.name.len());
        head.push(self.verb as u8);
        head.extend(self.number.to_le_bytes());
        head.extend(name.to_le_bytes());
        head.extend(body.to_le_bytes());
        head.extend(self.name.as_bytes());
        out.write_all(&head)?;
        out.write_all(&self.body)?;
        out.flush()
    }

    /// Reads the next message; none at the end of the stream.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` if it is not a message.
    pub fn read_from(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD];
        let got = loop {
            match input.read(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                got => break got?,
            }
        };
        if got == 0 {
            return Ok(None);
        }
        input.read_exact(&mut head[got..])?;
        let [verb, n0, n1, n2, n3, l0, l1, b0, b1, b2, b3] = head;
        let body = u32::from_le_bytes([b0, b1, b2, b3]);
        let (Some(verb), ..=MOST) = (ShareVerb::of(verb), body) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut name = vec![0; u16::from_le_bytes([l0, l1]).into()];
        input.read_exact(&mut name)?;
        let name = String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(body as usize)?;
        let got = input.take(body.into()).read_to_end(&mut bytes)?;
        if got < body as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Self {
            verb,
            number: u32::from_le_bytes([n0, n1, n2, n3]),
            name,
            body: bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interrupts each read once, as a signal does, and then gives one byte.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let one = bytes.len().min(1);
            self.0.read(&mut bytes[..one])
        }
    }

    #[test]
    fn an_interrupted_read_goes_on() {
        let sent = ShareMessage::new(ShareVerb::Found, 1, "name").with(vec![7; 9]);
        let mut bytes = Vec::new();
        sent.write_to(&mut bytes).expect("memory");
        let mut input = Interrupted(&bytes, false);
        let read = ShareMessage::read_from(&mut input).expect("whole");
        assert_eq!(read, Some(sent));
        assert_eq!(ShareMessage::read_from(&mut input).expect("the end"), None);
    }

    #[test]
    fn messages_come_as_they_went_and_what_is_none_is_refused() {
        let sent = [
            ShareMessage::new(ShareVerb::Get, 7, "").with(b"a\nb".to_vec()),
            ShareMessage::new(ShareVerb::Stored, u32::MAX, "words"),
        ];
        let mut bytes = Vec::new();
        for message in &sent {
            message.write_to(&mut bytes).expect("memory");
        }
        let mut input = &bytes[..];
        for message in &sent {
            let read = ShareMessage::read_from(&mut input).expect("whole");
            assert_eq!(read.as_ref(), Some(message));
        }
        assert_eq!(ShareMessage::read_from(&mut input).expect("the end"), None);
        let first = HEAD + sent[0].body.len();
        for cut in (1..bytes.len()).filter(|&cut| cut != first) {
            let mut input = &bytes[..cut];
            let read = std::iter::from_fn(|| ShareMessage::read_from(&mut input).transpose());
            assert!(read.take(3).any(|read| read.is_err()), "cut at {cut}");
        }
        for (at, byte) in [(0, 0), (0, 99), (10, 0xff)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert!(ShareMessage::read_from(&mut &bytes[..]).is_err());
        }
    }
}
