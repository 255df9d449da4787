//! All chunks in one file, as they are in memory, written by a clean close: the next start reads it from front to back
//! and builds nothing but hash tables, instead of reading the tree page by page and every text of every row.
//!
//! ```text
//! "DjC1" | length u32 | summary | for each chunk: length u32 | CRC-32 | chunk
//! ```
//! It counts only beside the mark of the close that wrote it. Summary and chunks have checksums, and together the
//! records must amount to what the mark says: whatever else is found, the tree is read.

use super::failure::from_io;
use super::load::{in_parallel, summed};
use crate::chunk::Chunk;
use crate::codec::{Summary, decode_summary, encode_summary};
use crate::core::Core;
use crate::image::{In, Out};
use dir_core::Cid;
use dir_core::index::IndexError;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const NAME: &str = "chunks";
const PARTIAL: &str = "chunks.partial";
/// What earlier versions left.
const OLD: [&str; 2] = ["rows", "rows.partial"];
const MAGIC: &[u8; 4] = b"DjC1";
const SUMMARY_BYTES: u32 = 256;
/// What is written at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// An allocation of this size is a mapping of its own wherever memory comes from: it goes back to the system when the
/// chunk is loaded, and what is not used of it is never there.
const OWN_MAPPING: usize = 33 << 20;

/// What the file says of itself: events are none of its business.
fn of_rows(summary: Summary) -> Summary {
    Summary { next_seq: 0, ..summary }
}

/// Writes the file, durably.
pub(super) fn write(dir: &Path, summary: Summary, core: &Core) -> Result<(), IndexError> {
    let write = || -> io::Result<()> {
        let partial = dir.join(PARTIAL);
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&partial)?);
        out.write_all(MAGIC)?;
        let summary = encode_summary(NAME.as_bytes(), of_rows(summary));
        out.write_all(&length(&summary)?)?;
        out.write_all(&summary)?;
        let mut image = Out(Vec::with_capacity(OWN_MAPPING));
        core.each_chunk(|chunk| {
            image.0.clear();
            chunk.write(&mut image);
            out.write_all(&length(&image.0)?)?;
            out.write_all(&crc32fast::hash(&image.0).to_le_bytes())?;
            out.write_all(&image.0)
        })?;
        out.into_inner()?.sync_all()?;
        fs::rename(partial, dir.join(NAME))
    };
    write().map_err(|e| from_io("saving the chunks of a closed index", e))
}

fn length(value: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(value.len()).map(u32::to_le_bytes);
    length.map_err(|_too_long| io::Error::new(ErrorKind::InvalidInput, "a chunk is too long"))
}

/// Removes the file, and what is left of an unfinished one.
pub(super) fn remove(dir: &Path) -> Result<(), IndexError> {
    for name in [NAME, PARTIAL].into_iter().chain(OLD) {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(from_io("removing the chunks of a closed index", e));
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

/// The chunks of the close that left this mark; `None` when there are none, or none that can be used.
pub(super) fn load(dir: &Path, closed: Summary, chunk_records: usize) -> Option<(Core, Summary)> {
    let path = dir.join(NAME);
    let places = match File::open(&path).and_then(|file| places(file, closed)) {
        Ok(places) => places?,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return useless(&error.to_string()),
    };
    let read = AssertUnwindSafe(|| in_parallel(places, |place| read_chunk(&path, place)));
    match catch_unwind(read) {
        Ok(Ok(chunks)) => {
            let core = Core::new(chunk_records);
            let found = summed(&core, chunks);
            if (found.rows, found.digests) == (closed.rows, closed.digests) {
                return Some((core, found));
            }
            useless("they are not those of the close")
        }
        Ok(Err(error)) => useless(&error.to_string()),
        Err(_panic) => useless("damaged"),
    }
}

fn useless<T>(error: &str) -> Option<T> {
    tracing::warn!(error, "the saved chunks of the index cannot be used; reading its tree instead");
    None
}

/// Where a chunk is in the file.
#[derive(Clone, Copy)]
struct ChunkPlace {
    at: u64,
    length: u32,
    checksum: u32,
}

/// The chunks of a file, when it is of the close that left this mark.
fn places(file: File, closed: Summary) -> io::Result<Option<Vec<ChunkPlace>>> {
    let damaged = || io::Error::new(ErrorKind::InvalidData, "damaged");
    let end = file.metadata()?.len();
    let mut file = BufReader::with_capacity(512, file);
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Ok(None);
    }
    let length = read_number(&mut file)?;
    if length > SUMMARY_BYTES {
        return Err(damaged());
    }
    let mut summary = vec![0; length as usize];
    file.read_exact(&mut summary)?;
    if decode_summary(NAME.as_bytes(), &summary).map_err(|_malformed| damaged())? != of_rows(closed) {
        return Ok(None);
    }
    let mut places = Vec::new();
    let mut at = (MAGIC.len() + 4) as u64 + u64::from(length);
    while at < end {
        let (length, checksum) = (read_number(&mut file)?, read_number(&mut file)?);
        places.push(ChunkPlace { at: at + 8, length, checksum });
        at += 8 + u64::from(length);
        file.seek_relative(i64::from(length))?;
    }
    if at == end { Ok(Some(places)) } else { Err(damaged()) }
}

fn read_number(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_chunk(path: &Path, place: ChunkPlace) -> Result<(Chunk, Vec<(Cid, u32)>), IndexError> {
    let damaged = || IndexError::Damaged("a chunk is unreadable".into());
    let length = place.length as usize;
    let mut image = Vec::with_capacity(length.max(OWN_MAPPING));
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(place.at))?;
        file.take(u64::from(place.length)).read_to_end(&mut image)
    });
    read.map_err(|e| from_io("reading the chunks of a closed index", e))?;
    if image.len() != length || crc32fast::hash(&image) != place.checksum {
        return Err(damaged());
    }
    let mut image = In(&image);
    let chunk = Chunk::load(&mut image).and_then(|chunk| image.end().map(|()| chunk));
    let chunk = chunk.map_err(|_malformed| damaged())?;
    let members = chunk.members().collect();
    Ok((chunk, members))
}
