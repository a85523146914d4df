//! Safetensors files of rows that are written and read some rows at a time: however many there are,
//! memory holds those at hand.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ddpm_model::weights;
use safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};

use ddpm_files::{aside, sync_parent};

/// Bytes that are hashed at once.
const CHUNK: usize = 1 << 20;

/// Far more than the header of any file takes that is read here.
const LONGEST_HEADER: u64 = 100_000_000;

/// The type of the numbers of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

impl Dtype {
    /// The type of this name in the format.
    fn of(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F64" => Some(Self::F64),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

impl From<Dtype> for safetensors::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
        }
    }
}

/// What a file of rows says before the rows themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The tensor's name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Rows.
    pub count: usize,
    /// Shape of a row.
    pub shape: Vec<usize>,
    /// The file's metadata.
    pub about: Option<HashMap<String, String>>,
}

impl Header {
    /// Bytes of a row.
    fn row(&self) -> Result<usize> {
        let numbers = self
            .shape
            .iter()
            .try_fold(1, |n: usize, &m| n.checked_mul(m));
        let bytes = numbers.and_then(|n| n.checked_mul(self.dtype.bytes()));
        bytes.with_context(|| format!("rows of shape {:?} are too long", self.shape))
    }

    /// The bytes of the file up to the first row.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = self.row()?.checked_mul(self.count);
        let bytes = bytes.with_context(|| format!("{} rows are too many", self.count))?;
        let info = TensorInfo {
            dtype: self.dtype.into(),
            shape: [&[self.count], &self.shape[..]].concat(),
            data_offsets: (0, bytes),
        };
        let metadata = Metadata::new(self.about.clone(), vec![(self.name.clone(), info)])?;
        let mut json = serde_json::to_vec(&metadata)?;
        // The format's readers expect the rows at a multiple of 8.
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut all = (json.len() as u64).to_le_bytes().to_vec();
        all.extend(json);
        Ok(all)
    }
}

/// A file that is being written under another name. It gets its own once all rows are there; until
/// then, also by another process, it can be gone on with.
pub struct Writer {
    file: File,
    path: PathBuf,
    aside: PathBuf,
    header: Header,
    /// Bytes of the header.
    start: u64,
    /// Bytes of a row.
    row: usize,
    /// Rows that are there.
    written: usize,
}

impl Writer {
    /// Begins the file `path`, or goes on with what was begun of it.
    ///
    /// # Errors
    ///
    /// If the system refuses, or what was begun has another header.
    pub fn open(path: &Path, header: Header) -> Result<Self> {
        let aside = aside(path);
        let context = || aside.display().to_string();
        let head = header.to_bytes()?;
        let (start, row) = (head.len() as u64, header.row()?);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&aside).with_context(context)?;
        let length = file.metadata().with_context(context)?.len();
        let mut written = 0;
        if length < start {
            file.write_all(&head).with_context(context)?;
            file.set_len(start).with_context(context)?;
        } else {
            let mut found = vec![0; head.len()];
            file.read_exact(&mut found).with_context(context)?;
            ensure!(
                found == head,
                "{}: was begun with other rows; remove it to begin again",
                aside.display()
            );
            let whole = (length - start) / (row as u64).max(1);
            written = usize::try_from(whole)
                .unwrap_or(usize::MAX)
                .min(header.count);
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            aside,
            header,
            start,
            row,
            written,
        })
    }

    /// How many of the first rows are there.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Writes rows from row `first` on, which may be there already, and waits until they last.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// # Panics
    ///
    /// If rows before `first` are missing, or the bytes are not of rows of the file.
    pub fn write(&mut self, first: usize, bytes: &[u8]) -> Result<()> {
        let rows = bytes.len() / self.row.max(1);
        assert!(
            first <= self.written && first + rows <= self.header.count,
            "rows {first} to {} after {} of {}",
            first + rows,
            self.written,
            self.header.count
        );
        let at = self.start + (first * self.row) as u64;
        let written = (self.file.seek(SeekFrom::Start(at)))
            .and_then(|_| self.file.write_all(bytes))
            .and_then(|()| self.file.sync_data());
        written.with_context(|| self.aside.display().to_string())?;
        self.written = self.written.max(first + rows);
        Ok(())
    }

    /// The SHA-256 of the rows that are there.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn sha256(&mut self) -> Result<String> {
        let length = self.written as u64 * self.row as u64;
        let hash = hash(&mut self.file, self.start, length);
        hash.with_context(|| self.aside.display().to_string())
    }

    /// Gives the file its name, with other metadata of the same length.
    ///
    /// # Errors
    ///
    /// If a row is missing, the metadata has another length, or the system refuses.
    pub fn finish(mut self, about: Option<HashMap<String, String>>) -> Result<()> {
        let context = || self.path.display().to_string();
        let (there, count) = (self.written, self.header.count);
        ensure!(there == count, "{}: {there} of {count} rows", context());
        self.header.about = about;
        let head = self.header.to_bytes()?;
        ensure!(
            head.len() as u64 == self.start,
            "{}: its metadata has changed its length",
            context()
        );
        let written = (self.file.seek(SeekFrom::Start(0)))
            .and_then(|_| self.file.write_all(&head))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.aside, &self.path));
        written.with_context(context)?;
        Ok(sync_parent(&self.path)?)
    }
}

/// A file of rows.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    /// What the file says before the rows.
    pub header: Header,
    /// Where they begin.
    start: u64,
    /// Bytes of a row.
    row: usize,
}

impl Reader {
    /// Opens the tensor `name` of a file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no whole safetensors file, or its tensor `name` is missing or
    /// has no rows.
    pub fn open(path: &Path, name: &str) -> Result<Self> {
        Self::begun(path, name, true).with_context(|| path.display().to_string())
    }

    /// Whether a file has a tensor `name`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but for a tensor that is missing.
    pub fn has(path: &Path, name: &str) -> Result<bool> {
        let read = || {
            let (header, _) = read_header(&mut File::open(path)?)?;
            anyhow::Ok(header.tensors.iter().any(|entry| entry.name == name))
        };
        read().with_context(|| path.display().to_string())
    }

    /// Opens what a [`Writer`] has begun of the file `path`, of which any number of the last rows is
    /// missing; `None` if it has begun nothing.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn unfinished(path: &Path, name: &str) -> Result<Option<Self>> {
        let aside = aside(path);
        let context = || aside.display().to_string();
        let mut file = match File::open(&aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(context)?,
        };
        // Whoever was killed in the header has written no row.
        if header_size(&mut file).with_context(context)?.is_none() {
            return Ok(None);
        }
        Ok(Some(
            Self::begun(&aside, name, false).with_context(context)?,
        ))
    }

    fn begun(path: &Path, name: &str, whole: bool) -> Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let (header, start) = read_header(&mut file)?;
        let expected = start.saturating_add(header.data_len() as u64);
        ensure!(
            !whole || length == expected,
            "has {length} bytes, its header says {expected}"
        );
        let about = header.metadata.clone();
        let entry = header.tensors.into_iter().find(|entry| entry.name == name);
        let entry = entry.with_context(|| format!("tensor `{name}` not found"))?;
        let Some((&count, shape)) = entry.shape.split_first() else {
            anyhow::bail!("tensor `{name}` has no rows");
        };
        let header = Header {
            name: name.to_owned(),
            dtype: Dtype::of(&entry.dtype)
                .with_context(|| format!("tensor {name} is not f32 or f64"))?,
            count,
            shape: shape.to_vec(),
            about,
        };
        let row = header.row()?;
        ensure!(
            row.checked_mul(count) == Some(entry.bytes.len()),
            "tensor `{name}`: its shape needs another size"
        );
        Ok(Self {
            row,
            start: start + entry.bytes.start as u64,
            header,
            path: path.to_owned(),
            file,
        })
    }

    /// The same file with the first axis of a row among the rows: `[n, m, …]` as n·m rows.
    ///
    /// # Errors
    ///
    /// If a row has no axis, or there are too many of them.
    pub fn flattened(mut self) -> Result<Self> {
        ensure!(
            !self.header.shape.is_empty(),
            "{}: tensor `{}` has one axis only",
            self.path.display(),
            self.header.name
        );
        let inner = self.header.shape.remove(0);
        let count = self.header.count.checked_mul(inner);
        self.header.count = count.with_context(|| self.path.display().to_string())?;
        self.row = self.header.row()?;
        Ok(self)
    }

    /// The bytes of some rows, one after the other.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// # Panics
    ///
    /// If there are not so many rows.
    pub fn read(&mut self, rows: Range<usize>) -> Result<Vec<u8>> {
        assert!(rows.end <= self.header.count, "{rows:?}");
        let mut bytes = vec![0; rows.len() * self.row];
        let at = self.start + (rows.start * self.row) as u64;
        let read =
            (self.file.seek(SeekFrom::Start(at))).and_then(|_| self.file.read_exact(&mut bytes));
        read.with_context(|| self.path.display().to_string())?;
        Ok(bytes)
    }

    /// The SHA-256 of the rows.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn sha256(&mut self) -> Result<String> {
        let length = self.header.count as u64 * self.row as u64;
        let hash = hash(&mut self.file, self.start, length);
        hash.with_context(|| self.path.display().to_string())
    }
}

/// The header of a safetensors file, and where its tensors begin.
fn read_header(file: &mut File) -> Result<(weights::Header, u64)> {
    let short = "is cut in its header";
    let size = header_size(file)?.context(short)?;
    let mut json = vec![0; usize::try_from(size)?];
    file.read_exact(&mut json).context(short)?;
    let header = weights::Header::parse(&json).map_err(anyhow::Error::msg)?;
    header.check_contiguous().map_err(anyhow::Error::msg)?;
    Ok((header, 8 + size))
}

/// Bytes of the header of a safetensors file, which follows; `None` if the file ends before it does.
fn header_size(file: &mut File) -> std::io::Result<Option<u64>> {
    let rest = file.metadata()?.len().checked_sub(8);
    let Some(rest) = rest else {
        return Ok(None);
    };
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    Ok((size <= LONGEST_HEADER.min(rest)).then_some(size))
}

/// The SHA-256 of so many bytes of a file from `start` on.
fn hash(file: &mut File, start: u64, length: u64) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(start))?;
    let mut hash = Sha256::new();
    let mut rest = file.take(length);
    let mut chunk = vec![0; CHUNK];
    loop {
        match rest.read(&mut chunk)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            n => hash.update(&chunk[..n]),
        }
    }
}

/// f32s from the bytes of rows.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

/// The bytes of rows of f32s.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
