//! All rows in one file, written by a clean close: the next start reads it from front to back instead of page by page
//! out of the tree, which would stay in memory.
//!
//! ```text
//! "DjR1" | length u32 | summary | for each row: length u32 | digest | row
//! ```
//! It counts only beside the mark of the close that wrote it. Summary and rows have checksums, and together the rows
//! must amount to what the mark says: whatever else is found, the tree is read.

use super::failure::from_io;
use super::keys;
use super::rows::Rows;
use crate::codec::{Summary, decode_summary, encode_row, encode_summary, peek_row_time};
use crate::core::Core;
use crate::rank::Place;
use dir_core::Cid;
use dir_core::index::IndexError;
use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

const NAME: &str = "rows";
const MAGIC: &[u8; 4] = b"DjR1";
/// What is read or written at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Longer values than any row are damage.
const MAX_VALUE_BYTES: u32 = 256 << 20;

/// What the file says of itself: events are none of its business.
fn of_rows(summary: Summary) -> Summary {
    Summary { next_seq: 0, ..summary }
}

/// Writes the file, durably.
pub(super) fn write(dir: &Path, summary: Summary, core: &Core) -> Result<(), IndexError> {
    let write = || -> io::Result<()> {
        let partial = dir.join("rows.partial");
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&partial)?);
        out.write_all(MAGIC)?;
        write_value(&mut out, &encode_summary(NAME.as_bytes(), of_rows(summary)))?;
        core.each_row(|place, facts| {
            let key = keys::row(&place.cid);
            let value = encode_row(&key, place.at.0, facts);
            out.write_all(&length(&value)?)?;
            out.write_all(place.cid.digest())?;
            out.write_all(&value)
        })?;
        out.into_inner()?.sync_all()?;
        fs::rename(partial, dir.join(NAME))
    };
    write().map_err(|e| from_io("writing the rows of a closed index", e))
}

fn write_value(out: &mut impl Write, value: &[u8]) -> io::Result<()> {
    out.write_all(&length(value)?)?;
    out.write_all(value)
}

fn length(value: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(value.len()).ok().filter(|length| *length <= MAX_VALUE_BYTES);
    length.map(u32::to_le_bytes).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a row is too long"))
}

/// Removes the file, and what is left of an unfinished one.
pub(super) fn remove(dir: &Path) -> Result<(), IndexError> {
    for name in [NAME, "rows.partial"] {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(from_io("removing the rows of a closed index", e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether there is a file.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Reads the file of the close that left this mark; `None` when there is none, or none that can be used.
pub(super) fn read(dir: &Path, closed: Summary) -> Option<Rows> {
    let file = File::open(dir.join(NAME)).ok()?;
    match read_rows(&mut BufReader::with_capacity(BUFFER_BYTES, file), closed) {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "the saved rows of the index are unreadable; reading its tree instead");
            None
        }
    }
}

fn read_rows(file: &mut impl Read, closed: Summary) -> io::Result<Option<Rows>> {
    let damaged = |_| io::Error::new(ErrorKind::InvalidData, "damaged");
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Ok(None);
    }
    let mut value = Vec::new();
    let length = read_length(file)?.unwrap_or_default();
    read_value(file, length, &mut value)?;
    if decode_summary(NAME.as_bytes(), &value).map_err(damaged)? != of_rows(closed) {
        return Ok(None);
    }
    let mut rows = Rows::default();
    let mut digest = [0; 32];
    while let Some(length) = read_length(file)? {
        file.read_exact(&mut digest)?;
        read_value(file, length, &mut value)?;
        // Checksums are looked at when the rows are decoded.
        let at = peek_row_time(&value).map_err(damaged)?;
        rows.push(Place { at: Reverse(at), cid: Cid::from_digest(digest) }, &value);
    }
    rows.sort();
    Ok(Some(rows))
}

/// The length of the next value; `None` at the end.
fn read_length(file: &mut impl Read) -> io::Result<Option<u32>> {
    let mut bytes = [0; 4];
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 if read == 0 => return Ok(None),
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => read += n,
        }
    }
    match u32::from_le_bytes(bytes) {
        length if length <= MAX_VALUE_BYTES => Ok(Some(length)),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "damaged")),
    }
}

fn read_value(file: &mut impl Read, length: u32, value: &mut Vec<u8>) -> io::Result<()> {
    value.clear();
    let read = file.take(u64::from(length)).read_to_end(value)?;
    if read == length as usize { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}
