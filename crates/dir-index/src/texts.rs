//! Texts by id, in one block of memory: a scan reads it front to back, and a text costs its bytes and eight more.

/// Garbage that is not worth a copy.
const MIN_GARBAGE: usize = 64 * 1024;

/// The texts of a dictionary. Together they stay below 4 GiB: see [`crate::chunk::Chunk::is_full`].
#[derive(Debug, Default)]
pub(crate) struct Texts {
    block: String,
    /// Start and end of each text in the block.
    spans: Vec<(u32, u32)>,
    /// Bytes of the block that no text has any more.
    garbage: usize,
    free: Vec<u32>,
}

impl Texts {
    pub(crate) fn get(&self, id: u32) -> &str {
        let (from, to) = self.spans[id as usize];
        &self.block[from as usize..to as usize]
    }

    /// Adds a text under an id that no text has.
    pub(crate) fn add(&mut self, text: &str) -> u32 {
        let from = to_u32(self.block.len());
        self.block.push_str(text);
        let span = (from, to_u32(self.block.len()));
        if let Some(id) = self.free.pop() {
            self.spans[id as usize] = span;
            return id;
        }
        self.spans.push(span);
        to_u32(self.spans.len() - 1)
    }

    /// Forgets a text; its id may be used again.
    pub(crate) fn remove(&mut self, id: u32) {
        self.garbage += self.get(id).len();
        self.spans[id as usize] = (0, 0);
        self.free.push(id);
        if self.garbage > MIN_GARBAGE && self.garbage > self.block.len() / 2 {
            self.compact();
        }
    }

    /// Gives back spare memory.
    pub(crate) fn shrink(&mut self) {
        self.block.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    /// Bytes of the block.
    pub(crate) fn bytes(&self) -> usize {
        self.block.len()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        self.block.capacity() + self.spans.capacity() * 8 + self.free.capacity() * 4
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
}
