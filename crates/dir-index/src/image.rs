//! Tables of a chunk as bytes, for the file that a clean close leaves: numbers of 32 bits, little-endian, and runs of
//! them or of bytes after their length. Checksums are the file's business.

use crate::codec::Malformed;

/// What is written.
#[derive(Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn number(&mut self, n: u32) {
        self.0.extend(n.to_le_bytes());
    }

    /// A length. What is longer than four billion is told by the file that then lacks it.
    pub(crate) fn len(&mut self, n: usize) {
        self.number(u32::try_from(n).unwrap_or(u32::MAX));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend(bytes);
    }

    pub(crate) fn numbers(&mut self, numbers: &[u32]) {
        self.len(numbers.len());
        self.0.reserve(numbers.len() * 4);
        for &n in numbers {
            self.number(n);
        }
    }
}

/// What is read.
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn number(&mut self) -> Result<u32, Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*taken))
    }

    pub(crate) fn len(&mut self) -> Result<usize, Malformed> {
        Ok(self.number()? as usize)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.len()?;
        self.take(len)
    }

    pub(crate) fn numbers<T: FromIterator<u32>>(&mut self) -> Result<T, Malformed> {
        let len = self.len()?;
        let bytes = self.take(len.checked_mul(4).ok_or(Malformed)?)?;
        let (numbers, _) = bytes.as_chunks();
        Ok(numbers.iter().map(|number| u32::from_le_bytes(*number)).collect())
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// `Ok` when something holds that every table has.
pub(crate) fn ensure(holds: bool) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed) }
}
