//! Texts that no other joins: each is a run of codes for pieces of up to eight bytes that its dictionary has often
//! (FSST). A text is read alone, in some hundred nanoseconds; near-unique names, URLs and prose take a sixth to a
//! half of their bytes.

use crate::codec::Malformed;
use crate::image::{In, Out, ensure};
use fsst::Compressor;

/// Bytes of texts that are not worth a table of pieces.
const MIN_BYTES: usize = 16 * 1024;
/// The code that says: the next byte stands for itself.
const LITERAL: u8 = u8::MAX;
/// Bytes of a piece at most.
const PIECE: usize = 8;

/// Texts by id.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// By code: a piece, and how much of it counts.
    pieces: Box<[([u8; PIECE], u8)]>,
    codes: Box<[u8]>,
    /// Where the codes of each text end.
    ends: Box<[u32]>,
    /// Bytes of all texts.
    bytes: usize,
}

impl Frozen {
    /// The texts as codes; `None` when they are better left as they are.
    pub(crate) fn of<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let bytes = texts.clone().map(str::len).sum();
        if bytes < MIN_BYTES {
            return None;
        }
        let compressor = Compressor::train(&texts.clone().map(str::as_bytes).collect());
        let pieces = compressor.symbol_table().iter().zip(compressor.symbol_lengths());
        let pieces = pieces.map(|(piece, len)| (piece.to_u64().to_le_bytes(), *len)).collect();
        let (mut codes, mut ends) = (Vec::with_capacity(bytes / 2), Vec::new());
        for text in texts.clone() {
            codes.extend(compressor.compress(text.as_bytes()));
            ends.push(u32::try_from(codes.len()).ok()?);
        }
        let frozen = Self { pieces, codes: codes.into(), ends: ends.into(), bytes };
        // What was compressed elsewhere is believed when it has been read back.
        let mut read = String::new();
        let same = |(id, text): (u32, &str)| {
            frozen.read(id, &mut read);
            read == text
        };
        (frozen.codes.len() < bytes && (0..).zip(texts).all(same)).then_some(frozen)
    }

    pub(crate) fn write(&self, out: &mut Out) {
        out.len(self.pieces.len());
        for (piece, len) in &self.pieces {
            out.0.extend(piece);
            out.0.push(*len);
        }
        out.bytes(&self.codes);
        out.numbers(&self.ends);
        out.len(self.bytes);
    }

    pub(crate) fn load(image: &mut In<'_>) -> Result<Self, Malformed> {
        let table = image.len()?;
        ensure(table <= usize::from(LITERAL))?;
        let entries = image.take(table * (PIECE + 1))?;
        let (entries, _) = entries.as_chunks::<{ PIECE + 1 }>();
        let pieces: Box<[_]> = entries.iter().map(|&[piece @ .., len]| (piece, len)).collect();
        ensure(pieces.iter().all(|(_, len)| usize::from(*len) <= PIECE))?;
        let (codes, ends): (Box<[u8]>, Box<[u32]>) = (image.bytes()?.into(), image.numbers()?);
        ensure(ends.is_sorted() && ends.last().copied().unwrap_or(0) as usize == codes.len())?;
        let known = |code: u8| usize::from(code) < pieces.len();
        let mut rest = codes.iter();
        while let Some(&code) = rest.next() {
            ensure(if code == LITERAL { rest.next().is_some() } else { known(code) })?;
        }
        Ok(Self { pieces, codes, ends, bytes: image.len()? })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replaces `text` by the text of an id.
    pub(crate) fn read(&self, id: u32, text: &mut String) {
        let id = id as usize;
        let from = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        let codes = &self.codes[from as usize..self.ends[id] as usize];
        let mut bytes = std::mem::take(text).into_bytes();
        bytes.clear();
        bytes.reserve(codes.len() * PIECE);
        let mut codes = codes.iter();
        while let Some(&code) = codes.next() {
            if code == LITERAL {
                bytes.extend(codes.next());
            } else {
                let (piece, len) = self.pieces[usize::from(code)];
                // Copied whole and cut: a copy of a fixed size is one instruction.
                let end = bytes.len() + usize::from(len);
                bytes.extend_from_slice(&piece);
                bytes.truncate(end);
            }
        }
        // The codes are those of a text: this is checked when they are made, or when they are loaded.
        *text = String::from_utf8(bytes).unwrap_or_default();
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap(&self) -> usize {
        self.pieces.len() * size_of::<([u8; PIECE], u8)>() + self.codes.len() + self.ends.len() * 4
    }
}
