//! What a store and the program that reaches a shared one for it say to each other, over a
//! pair of pipes. Neither believes the other's lengths.

use std::io::{self, Read, Write};

/// Most bytes of a message: a block of the largest models there are has a tenth.
const MOST: u32 = 256 << 20;

/// Kind, number, length of the name, length of the body.
const HEAD: usize = 1 + 4 + 2 + 4;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShareVerb {
    /// Asked: open the store. The body is what its mark has to say.
    Open = 1,
    /// Asked: the objects that the body names, a line each, up to the first that is not there.
    Get = 2,
    /// Asked: keep the body under this name.
    Put = 3,
    /// Asked: remove this object, which is not what its name says.
    Remove = 4,
    /// Asked: remove all objects whose names begin with this one.
    Forget = 5,
    /// Answered: it is open; or, with a name, what is wrong in words in its place.
    Opened = 6,
    /// Answered: an object.
    Found = 7,
    /// Answered: that was all for [`ShareVerb::Get`] and [`ShareVerb::Forget`], of which the
    /// number of objects is the body; a name is what went wrong, in words.
    End = 8,
    /// Answered: it is kept; or a name, what went wrong, in words.
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
    /// What it is about.
    pub verb: ShareVerb,
    /// Which question it belongs to.
    pub number: u32,
    /// The name of an object, or words for a person.
    pub name: String,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl ShareMessage {
    /// With a name alone.
    pub fn new(verb: ShareVerb, number: u32, name: impl Into<String>) -> Self {
        Self {
            verb,
            number,
            name: name.into(),
            body: Vec::new(),
        }
    }

    /// The same with a body.
    pub fn with(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    /// # Errors
    /// The system's; `InvalidInput` where it is longer than a message may be.
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

    /// The next one; none where the other side has ended.
    ///
    /// # Errors
    /// The system's; `InvalidData` where it is no message.
    pub fn read_from(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD];
        match input.read(&mut head)? {
            0 => return Ok(None),
            got => input.read_exact(&mut head[got..])?,
        }
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
