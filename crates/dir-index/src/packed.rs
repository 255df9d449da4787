//! Lists of small numbers in few bytes.

/// Numbers of up to 32 bits, seven bits a byte: most ids of a chunk take two bytes.
#[derive(Debug)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    pub(crate) fn new(numbers: &[u32]) -> Self {
        let mut bytes = Vec::with_capacity(numbers.len() * 2);
        for &number in numbers {
            let mut rest = number;
            while rest >= 0x80 {
                bytes.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            bytes.push(rest.to_le_bytes()[0]);
        }
        Self(bytes.into_boxed_slice())
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let mut bytes = self.0.iter();
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

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(any::<u32>().prop_map(|n| n >> (n % 32)), 0..20)) {
            prop_assert_eq!(Packed::new(&numbers).iter().collect::<Vec<_>>(), numbers);
        }
    }
}
