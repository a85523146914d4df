//! The folder `--out` before anything is written there: that it can be, and may be.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::shard::{self, Provenance, Shard};
use ddpm_files::aside;

use crate::terminal;

/// What is to be done with what an earlier order left in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: the folder must be empty.
    Refuse,
    /// What is missing of it is drawn.
    Resume,
    /// It is removed.
    Overwrite,
}

/// What is to be written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Samples, and nothing else is there.
    Samples,
    /// Samples, beside the shards that they come from.
    Merged,
    /// A shard, beside others.
    Shard(Shard),
}

/// What says which samples a folder holds.
pub(super) const RECORD: &str = "samples.json";

/// What the hidden file that is locked for another one is called beside that one's name.
const LOCK: &str = ".lock";

/// A folder for samples, as long as this process has it. Folders that were made for it and are still
/// empty go with it.
pub(super) struct Claim {
    pub(super) out: PathBuf,
    pub(super) existing: Existing,
    /// What an earlier order recorded.
    pub(super) record: Option<Provenance>,
    lock: PathBuf,
    /// The system's lock on that file, which ends with the process however it ends.
    _locked: File,
    _made: Made,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.lock);
    }
}

/// Folders that were made, the outermost first.
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a folder and those that it is in.
    fn new(folder: &Path) -> Result<Self> {
        let missing = folder
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty());
        let missing = missing.take_while(|path| !path.exists());
        let mut missing: Vec<_> = missing.map(Path::to_owned).collect();
        missing.reverse();
        fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
        Ok(Self(missing))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // One that holds something stays.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Claim {
    /// Takes the folder `out`, making it where there is none. Nothing that is there changes.
    ///
    /// # Errors
    ///
    /// If it cannot be written to, another process has it, or what it holds is not what `existing`
    /// and `purpose` ask for.
    pub(super) fn new(out: &Path, existing: Existing, purpose: Purpose) -> Result<Self> {
        let shown = out.display();
        match fs::metadata(out) {
            Ok(found) => ensure!(found.is_dir(), "--out {shown} is not a folder"),
            Err(error) if error.kind() == ErrorKind::NotFound => ensure!(
                existing != Existing::Resume,
                "--resume: {shown} does not exist, so there is nothing to go on with"
            ),
            Err(error) => return Err(error).with_context(|| format!("--out {shown}")),
        }
        let made = Made::new(out)?;
        let (lock, locked) = lock(out, purpose)?;
        let mut claim = Self {
            out: out.to_owned(),
            existing,
            record: None,
            lock,
            _locked: locked,
            _made: made,
        };
        match purpose {
            Purpose::Shard(shard) => claim.check_shard(shard)?,
            Purpose::Samples | Purpose::Merged => claim.check_samples(purpose)?,
        }
        Ok(claim)
    }

    /// The names in the folder, but for those of locks, and of a record that was not finished:
    /// whoever was killed there had made nothing else.
    fn names(&self) -> Result<Vec<String>> {
        let context = || self.out.display().to_string();
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.out).with_context(context)? {
            let name = entry.with_context(context)?.file_name();
            let name = name.to_string_lossy().into_owned();
            let hidden = name.strip_prefix('.');
            let locks = hidden.is_some_and(|name| name.strip_suffix(LOCK).is_some());
            let unfinished = Path::new(&name) == aside(Path::new(RECORD));
            if !locks && !unfinished {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn check_samples(&mut self, purpose: Purpose) -> Result<()> {
        let shown = self.out.display();
        let mut names = self.names()?;
        names.retain(|name| purpose == Purpose::Samples || !shard::is_shard(name));
        if names.is_empty() {
            return Ok(());
        }
        let path = self.out.join(RECORD);
        let record = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let record: Option<Provenance> = (record.transpose())
            .with_context(|| format!("{}: is no record of samples", path.display()))?;
        match (self.existing, record) {
            (Existing::Refuse, Some(_)) => bail!(
                "{shown} holds samples already: go on with --resume, replace them with \
                 --overwrite, or choose another --out"
            ),
            (Existing::Refuse, None) => bail!("{shown} is not empty: choose another --out"),
            (Existing::Resume, None) => bail!(
                "--resume: {shown} is not empty and has no {RECORD}, so it is not known what to go \
                 on with"
            ),
            (Existing::Overwrite, None) => bail!(
                "--overwrite: {shown} is not empty and has no {RECORD}, so it is not known what an \
                 earlier `ddpm sample` made there"
            ),
            (Existing::Resume | Existing::Overwrite, record) => self.record = record,
        }
        Ok(())
    }

    fn check_shard(&self, shard: Shard) -> Result<()> {
        let shown = self.out.display();
        if let Some(other) = self.names()?.iter().find(|name| !shard::is_shard(name)) {
            bail!("{shown} holds something else than shards: {other}; choose another --out");
        }
        let path = shard.path(&self.out);
        let (own, finished) = (path.display(), path.exists());
        let begun = finished || aside(&path).exists();
        ensure!(
            self.existing != Existing::Refuse || !begun,
            "{own} was {} already: go on with --resume, replace it with --overwrite, or choose \
             another --out",
            if finished { "drawn" } else { "begun" }
        );
        Ok(())
    }
}

/// The file that a process locks while it writes for a purpose, and the lock.
fn lock(out: &Path, purpose: Purpose) -> Result<(PathBuf, File)> {
    let name = match purpose {
        Purpose::Samples | Purpose::Merged => RECORD.to_owned(),
        Purpose::Shard(shard) => shard.path(Path::new("")).display().to_string(),
    };
    let path = out.join(format!(".{name}{LOCK}"));
    let file = File::create(&path).with_context(|| format!("--out {}", out.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("{} is in use by another process", out.display()),
        Err(TryLockError::Error(error)) => terminal::say(format_args!(
            "{} cannot be locked ({error}): see that no other process writes there",
            out.display()
        )),
    }
    Ok((path, file))
}
