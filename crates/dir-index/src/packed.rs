//! Lists of small numbers in few bytes.

use crate::codec::Malformed;
use crate::image::{In, Out, ensure};

/// Lists of numbers of up to 32 bits, one after the other, seven bits a byte: most ids of a chunk take two bytes.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    bytes: Vec<u8>,
    /// Where each list ends.
    ends: Vec<u32>,
}

impl Lists {
    /// Adds a list; its number is how many there were.
    pub(crate) fn push(&mut self, numbers: &[u32]) {
        for &number in numbers {
            let mut rest = number;
            while rest >= 0x80 {
                self.bytes.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            self.bytes.push(rest.to_le_bytes()[0]);
        }
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    pub(crate) fn write(&self, out: &mut Out) {
        out.bytes(&self.bytes);
        out.numbers(&self.ends);
    }

    /// So many lists.
    pub(crate) fn read(image: &mut In<'_>, lists: usize) -> Result<Self, Malformed> {
        let (bytes, ends) = (image.bytes()?.to_vec(), image.numbers::<Vec<u32>>()?);
        ensure(ends.is_sorted() && ends.last().copied().unwrap_or(0) as usize == bytes.len())?;
        ensure(ends.len() == lists)?;
        Ok(Self { bytes, ends })
    }

    /// Bytes of all lists.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Gives back spare memory.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4
    }

    /// A list by its number.
    pub(crate) fn get(&self, list: u32) -> impl Iterator<Item = u32> {
        let list = list as usize;
        let from = list.checked_sub(1).map_or(0, |before| self.ends[before]);
        let mut bytes = self.bytes[from as usize..self.ends[list] as usize].iter();
        std::iter::from_fn(move || {
            let (mut number, mut shift) = (0_u32, 0);
            loop {
                let byte = *bytes.next()?;
                number |= u32::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    return Some(number);
                }
                shift += 7;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u32> {
        any::<u32>().prop_map(|n| n >> (n % 32))
    }

    proptest! {
        #[test]
        fn numbers_come_back(all in prop::collection::vec(prop::collection::vec(number(), 0..20), 0..9)) {
            let mut lists = Lists::default();
            for numbers in &all {
                lists.push(numbers);
            }
            lists.shrink();
            for (n, numbers) in (0..).zip(&all) {
                prop_assert_eq!(&lists.get(n).collect::<Vec<_>>(), numbers);
            }
        }
    }
}
