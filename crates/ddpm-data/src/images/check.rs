//! What is learned of all files of a folder before one of them is decoded.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::thread;

use sha2::{Digest, Sha256};

use super::budget::Budget;
use super::decode::{Shape, header};
use super::listing::Listing;
use super::parallel::in_parallel;
use super::reading::Reading;
use crate::DataError;

/// Files that are checked by one thread at a time. The fingerprint depends on it.
const SHARD: usize = 250;

/// Bytes of a file's beginning, and of its end, that the fingerprint depends on.
const BLOCK: u64 = 4096;

/// Threads that check at least: they wait for the disk more than for a processor.
const THREADS: usize = 8;

/// What the headers of all files tell.
pub(super) struct Checked {
    /// Identifies the data.
    pub(super) fingerprint: String,
    /// Whether a file has more than 8 bits per channel.
    pub(super) is_deep: bool,
    /// Bytes of memory that decoding takes, of the image where it takes most.
    pub(super) largest: u64,
}

/// Reads the header of each file, and refuses the first file that has none or is too large to decode.
pub(super) fn check(
    root: &Path,
    listing: &Listing,
    shape: Shape,
    budget: &Budget,
    progress: &mut dyn FnMut(Reading),
) -> Result<Checked, DataError> {
    let total = listing.files.len();
    let shards = (0..total).step_by(SHARD);
    let shards = shards.map(|first| first..(first + SHARD).min(total));
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let check = |files: Range<usize>| Shard::of(files, root, listing, shape, budget);
    let mut done = 0;
    let shards = in_parallel(cores.max(THREADS), shards, check, |shard| {
        done += shard.files;
        progress(Reading::Checked { done, total });
    })?;
    let mut hash = Sha256::new();
    let channels = shape.channels.count();
    hash.update(format!("{channels}×{}×{}\n", shape.height, shape.width));
    for (name, &end) in listing.class_names.iter().zip(&listing.class_ends) {
        hash.update(format!("{} {name} {end}\n", name.len()));
    }
    for shard in &shards {
        hash.update(shard.digest);
    }
    Ok(Checked {
        fingerprint: format!("{:x}", hash.finalize()),
        is_deep: shards.iter().any(|shard| shard.is_deep),
        largest: shards.iter().map(|s| s.largest).max().unwrap_or(0),
    })
}

/// What the headers of some files tell.
struct Shard {
    files: usize,
    digest: [u8; 32],
    is_deep: bool,
    largest: u64,
}

impl Shard {
    fn of(
        files: Range<usize>,
        root: &Path,
        listing: &Listing,
        shape: Shape,
        budget: &Budget,
    ) -> Result<Self, DataError> {
        let (mut hash, mut is_deep, mut largest) = (Sha256::new(), false, 0);
        let count = files.len();
        for i in files {
            let (name, path) = (listing.files.get(i), listing.files.path(root, i));
            let mut file = Ends::read(&path).map_err(|error| DataError::io(&path, error))?;
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(file.length.to_le_bytes());
            hash.update(&file.head);
            hash.update(&file.tail);
            let (is_this_deep, needed) = file.header(&path, shape, budget)?;
            is_deep |= is_this_deep;
            largest = needed.max(largest);
        }
        Ok(Self {
            files: count,
            digest: hash.finalize().into(),
            is_deep,
            largest,
        })
    }
}

/// A file with its first and last bytes.
struct Ends {
    file: File,
    length: u64,
    /// Its first [`BLOCK`] bytes.
    head: Vec<u8>,
    /// Its last [`BLOCK`] bytes, without those of `head`.
    tail: Vec<u8>,
}

impl Ends {
    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        (&mut file).take(BLOCK).read_to_end(&mut head)?;
        if length > BLOCK {
            file.seek(SeekFrom::Start(BLOCK.max(length - BLOCK)))?;
            (&mut file).take(BLOCK).read_to_end(&mut tail)?;
        }
        Ok(Self {
            file,
            length,
            head,
            tail,
        })
    }

    /// Whether the image has more than 8 bits per channel, and the bytes of memory that decoding takes.
    /// Most headers are in the first bytes; where one is not, more of the file is read.
    fn header(
        &mut self,
        path: &Path,
        shape: Shape,
        budget: &Budget,
    ) -> Result<(bool, u64), DataError> {
        loop {
            let reason = match header(&self.head, shape, budget) {
                Ok(header) => {
                    let checked = header.check(budget);
                    checked.map_err(|reason| DataError::format(path, reason))?;
                    return Ok((header.is_deep, header.needed));
                }
                Err(reason) => reason,
            };
            let more = self.read_more();
            if more.map_err(|error| DataError::io(path, error))? == 0 {
                return Err(DataError::format(path, reason));
            }
        }
    }

    /// Makes the head 16 times as long, or as long as the file. Returns the number of bytes added.
    fn read_more(&mut self) -> io::Result<usize> {
        let known = self.head.len() as u64;
        self.file.seek(SeekFrom::Start(known))?;
        (&mut self.file)
            .take(15 * known)
            .read_to_end(&mut self.head)
    }
}
