//! Texts by id, in one block of memory: open for more of them, or frozen (see [`crate::frozen`]).

use crate::codec::Malformed;
use crate::frozen::Frozen;
use crate::image::{In, Out, ensure};
use std::borrow::Cow;

/// Garbage that is not worth a copy.
const MIN_GARBAGE: usize = 64 * 1024;

/// The texts of a dictionary. Together they stay below 4 GiB: see [`crate::chunk::Chunk::is_full`].
#[derive(Debug, Default)]
pub(crate) struct Texts {
    state: State,
    free: Vec<u32>,
}

#[derive(Debug)]
enum State {
    Open(Open),
    Frozen(Frozen),
}

impl Default for State {
    fn default() -> Self {
        Self::Open(Open::default())
    }
}

/// A scan reads it front to back, and a text costs its bytes and eight more.
#[derive(Debug, Default)]
struct Open {
    block: String,
    /// Start and end of each text in the block.
    spans: Vec<(u32, u32)>,
    /// Bytes of the block that no text has any more.
    garbage: usize,
}

impl Texts {
    pub(crate) fn get(&self, id: u32) -> Cow<'_, str> {
        match &self.state {
            State::Open(open) => Cow::Borrowed(open.get(id)),
            State::Frozen(frozen) => {
                let mut text = String::new();
                frozen.read(id, &mut text);
                Cow::Owned(text)
            }
        }
    }

    /// The same, with a buffer that is used again.
    pub(crate) fn read<'a>(&'a self, id: u32, buffer: &'a mut String) -> &'a str {
        match &self.state {
            State::Open(open) => open.get(id),
            State::Frozen(frozen) => {
                frozen.read(id, buffer);
                buffer
            }
        }
    }

    /// Adds a text under an id that no text has.
    pub(crate) fn add(&mut self, text: &str) -> u32 {
        let free = self.free.pop();
        let open = self.open();
        let span = open.append(text);
        if let Some(id) = free {
            open.spans[id as usize] = span;
            return id;
        }
        open.spans.push(span);
        to_u32(open.spans.len() - 1)
    }

    /// The texts as they are when one is added.
    fn open(&mut self) -> &mut Open {
        if let State::Frozen(frozen) = &self.state {
            self.state = State::Open(Open::of(frozen));
        }
        match &mut self.state {
            State::Open(open) => open,
            State::Frozen(_) => unreachable!("opened above"),
        }
    }

    /// Forgets a text; its id may be used again.
    pub(crate) fn remove(&mut self, id: u32) {
        self.free.push(id);
        if let State::Open(open) = &mut self.state {
            open.remove(id);
        }
    }

    /// Gives back spare memory, and keeps the texts as codes where that is worth it. Adding another undoes it.
    pub(crate) fn freeze(&mut self) {
        self.free.shrink_to_fit();
        let State::Open(open) = &mut self.state else { return };
        let texts = open.spans.iter().map(|&(from, to)| &open.block[from as usize..to as usize]);
        if let Some(frozen) = Frozen::of(texts) {
            self.state = State::Frozen(frozen);
        } else {
            open.block.shrink_to_fit();
            open.spans.shrink_to_fit();
        }
    }

    pub(crate) fn write(&self, out: &mut Out) {
        match &self.state {
            State::Frozen(frozen) => {
                out.number(1);
                frozen.write(out);
            }
            State::Open(open) => {
                out.number(0);
                let texts = (0..to_u32(open.spans.len())).map(|id| open.get(id));
                out.len(texts.len());
                texts.for_each(|text| out.bytes(text.as_bytes()));
            }
        }
    }

    /// Which texts are those of no record is told by [`Texts::set_free`].
    pub(crate) fn load(image: &mut In<'_>) -> Result<Self, Malformed> {
        let state = if image.number()? == 1 {
            State::Frozen(Frozen::load(image)?)
        } else {
            let mut open = Open::default();
            for _ in 0..image.number()? {
                let text = std::str::from_utf8(image.bytes()?).map_err(|_not_utf8| Malformed)?;
                let span = open.append(text);
                open.spans.push(span);
            }
            State::Open(open)
        };
        Ok(Self { state, free: Vec::new() })
    }

    /// Notes which texts are those of no record, when there are so many ids.
    pub(crate) fn set_free(&mut self, ids: usize, free: Vec<u32>) -> Result<(), Malformed> {
        self.free = free;
        ensure(
            ids == match &self.state {
                State::Open(open) => open.spans.len(),
                State::Frozen(frozen) => frozen.len(),
            },
        )
    }

    /// An open copy of frozen texts, for those who look at all of them again and again.
    pub(crate) fn thawed(&self) -> Option<Self> {
        match &self.state {
            State::Open(_) => None,
            State::Frozen(frozen) => Some(Self { state: State::Open(Open::of(frozen)), free: Vec::new() }),
        }
    }

    /// Bytes of the block, as it is when it is open.
    pub(crate) fn bytes(&self) -> usize {
        match &self.state {
            State::Open(open) => open.block.len(),
            State::Frozen(frozen) => frozen.bytes(),
        }
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        let texts = match &self.state {
            State::Open(open) => open.block.capacity() + open.spans.capacity() * 8,
            State::Frozen(frozen) => frozen.heap(),
        };
        texts + self.free.capacity() * 4
    }
}

impl Open {
    fn of(frozen: &Frozen) -> Self {
        let mut open = Self::default();
        let mut text = String::new();
        for id in 0..frozen.len() {
            frozen.read(to_u32(id), &mut text);
            let span = open.append(&text);
            open.spans.push(span);
        }
        open
    }

    fn get(&self, id: u32) -> &str {
        let (from, to) = self.spans[id as usize];
        &self.block[from as usize..to as usize]
    }

    fn append(&mut self, text: &str) -> (u32, u32) {
        let from = to_u32(self.block.len());
        self.block.push_str(text);
        (from, to_u32(self.block.len()))
    }

    fn remove(&mut self, id: u32) {
        self.garbage += self.get(id).len();
        self.spans[id as usize] = (0, 0);
        if self.garbage > MIN_GARBAGE && self.garbage > self.block.len() / 2 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut block = String::with_capacity(self.block.len() - self.garbage);
        for span in &mut self.spans {
            let text = &self.block[span.0 as usize..span.1 as usize];
            let from = to_u32(block.len());
            block.push_str(text);
            *span = (from, to_u32(block.len()));
        }
        self.block = block;
        self.garbage = 0;
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn removed_texts_leave_no_garbage_behind() {
        let mut texts = Texts::default();
        let text = |n: usize| format!("{n:01000}");
        let ids: Vec<u32> = (0..200).map(|n| texts.add(&text(n))).collect();
        for id in &ids[..150] {
            texts.remove(*id);
        }
        assert!(texts.bytes() <= 100 * 1000, "{}", texts.bytes());
        for (n, id) in ids.iter().enumerate().skip(150) {
            assert_eq!(texts.get(*id), text(n));
        }
        assert!(ids[..150].contains(&texts.add("again")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Whatever the texts are, freezing changes none, nor does what happens to them afterwards.
        #[test]
        fn frozen_texts_are_the_same_texts(
            few in prop::collection::vec(any::<String>(), 1..40),
            seed in 0_usize..1000,
        ) {
            let text = |n: usize| format!("https://example.com/{}/agent-{}", few[n % few.len()], n * seed);
            let mut texts = Texts::default();
            let ids: Vec<u32> = (0..1500).map(|n| texts.add(&text(n))).collect();
            texts.remove(ids[7]);
            let bytes = texts.bytes();
            texts.freeze();
            prop_assert!(matches!(texts.state, State::Frozen(_)));
            prop_assert!(texts.heap() < bytes);
            texts.remove(ids[8]);
            let mut buffer = String::new();
            for (n, id) in ids.iter().enumerate().filter(|(n, _)| ![7, 8].contains(n)) {
                prop_assert_eq!(texts.get(*id), text(n));
                prop_assert_eq!(texts.read(*id, &mut buffer), text(n));
            }
            let thawed = texts.thawed().unwrap();
            prop_assert_eq!(thawed.get(ids[9]), text(9));
            // The ids of the removed ones are used again.
            let again = [texts.add("x"), texts.add("y")];
            prop_assert!(again.iter().all(|id| ids[7..9].contains(id)));
            prop_assert!(texts.add("z") == 1500 && texts.thawed().is_none());
            for (n, id) in ids.iter().enumerate().filter(|(n, _)| ![7, 8].contains(n)) {
                prop_assert_eq!(texts.get(*id), text(n));
            }
        }
    }
}
