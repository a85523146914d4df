//! One rank, as the training loop sees it.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use sha2::{Digest, Sha256};

use super::error::RanksError;
use super::team::Team;

/// One rank among those that train a run together.
#[derive(Clone, Default)]
pub struct Ranks {
    /// None for one alone.
    pub(super) team: Option<Arc<dyn Team>>,
}

impl Ranks {
    /// Joins the processes that `mpirun` has started with this one; a process that was started alone
    /// is alone. The [default](Self::default) is alone in any case.
    ///
    /// # Errors
    ///
    /// If there are others, but this build has no MPI, or MPI does not begin.
    pub fn join() -> Result<Self, RanksError> {
        let team = match started_together() {
            Some(ranks) if ranks > 1 => Some(join(ranks)?),
            _ => None,
        };
        Ok(Self { team })
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.team.as_ref().map_or(0, |team| team.rank())
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.team.as_ref().map_or(1, |team| team.size())
    }

    /// This rank's number among those on its machine, by which it chooses among the machine's
    /// devices.
    pub fn local_rank(&self) -> usize {
        self.team.as_ref().map_or(0, |team| team.local_rank())
    }

    /// How many ranks there are on this rank's machine.
    pub fn local_size(&self) -> usize {
        self.team.as_ref().map_or(1, |team| team.local_size())
    }

    /// Whether this is the one that writes.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// The rows of each batch that are this rank's.
    ///
    /// # Errors
    ///
    /// If the parts of a batch cannot be divided evenly: the mean over a batch is the mean of the
    /// ranks' means only if all have as many rows.
    pub fn share(&self, batch_size: usize, parts: usize) -> Result<Range<usize>, RanksError> {
        let (rank, ranks) = (self.rank(), self.size());
        if !batch_size.is_multiple_of(ranks * parts) {
            return Err(RanksError::Indivisible {
                batch_size,
                parts,
                ranks,
            });
        }
        let rows = batch_size / ranks;
        Ok(rank * rows..(rank + 1) * rows)
    }

    /// Every rank's numbers, in the order of ranks, each as many as here.
    ///
    /// # Errors
    ///
    /// If another rank [failed](RanksError::Failed). Where ranks are processes, MPI ends this one
    /// instead, here and below.
    pub fn gather(&self, values: &[f64]) -> Result<Vec<f64>, RanksError> {
        match &self.team {
            Some(team) => team.gather(values),
            None => Ok(values.to_vec()),
        }
    }

    /// The values' sums over the ranks, the same on every one.
    ///
    /// # Errors
    ///
    /// If the tensor cannot be read from its device, or another rank failed.
    pub fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>, RanksError> {
        match &self.team {
            Some(team) => team.sum(values),
            None => Ok(values),
        }
    }

    /// Waits until every rank is here.
    ///
    /// # Errors
    ///
    /// If another rank failed.
    pub fn wait(&self) -> Result<(), RanksError> {
        self.gather(&[0.0]).map(|_| ())
    }

    /// That all ranks have the same text.
    ///
    /// # Errors
    ///
    /// If one has another, or failed.
    pub fn agree(&self, what: &'static str, text: &str) -> Result<(), RanksError> {
        let hash = Sha256::digest(text);
        let bytes: Vec<f64> = hash.iter().map(|&byte| f64::from(byte)).collect();
        self.agree_on(what, &bytes)
    }

    /// That all ranks have the same numbers, bit for bit; whichever NaN is the same NaN.
    ///
    /// # Errors
    ///
    /// If one has others, or failed.
    pub fn agree_on(&self, what: &'static str, values: &[f64]) -> Result<(), RanksError> {
        let all = self.gather(values)?;
        let same = |other: &[f64]| {
            let mut pairs = other.iter().zip(values);
            pairs.all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
        };
        let first = all.get(..values.len()).unwrap_or_default();
        let apart = |rank: usize| Err(RanksError::Apart { rank, what });
        if !same(first) {
            return apart(self.rank());
        }
        let mut ranks = all.chunks_exact(values.len());
        ranks.position(|other| !same(other)).map_or(Ok(()), apart)
    }

    /// Ends the processes of all ranks at once, this one too, for a program that cannot go on: the
    /// others would wait for it for ever. It returns where there are no other processes: one alone
    /// has nobody to end, and threads hear from [`on_devices`](super::on_devices) that one of them failed.
    pub fn abort(&self, code: i32) {
        if let Some(team) = &self.team {
            team.abort(code);
        }
    }
}

#[cfg(feature = "mpi")]
fn join(_ranks: usize) -> Result<Arc<dyn Team>, RanksError> {
    Ok(Arc::new(super::mpi::World::join()?))
}

#[cfg(not(feature = "mpi"))]
fn join(ranks: usize) -> Result<Arc<dyn Team>, RanksError> {
    Err(RanksError::NotCompiled(ranks))
}

/// How many processes were started together, as their starter tells each: Open MPI; MPICH, Intel MPI
/// and Slurm.
fn started_together() -> Option<usize> {
    let names = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
    let told = names.iter().find_map(|name| std::env::var(name).ok());
    told.and_then(|size| size.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn one_alone_has_all_rows_and_agrees_with_itself() {
        let alone = Ranks::default();
        assert_eq!((alone.rank(), alone.size()), (0, 1));
        assert_eq!(alone.share(8, 2), Ok(0..8));
        assert!(alone.share(9, 2).is_err());
        assert_eq!(alone.gather(&[1.0, f64::NAN]).unwrap()[0], 1.0);
        let sum = alone.sum(Tensor::from_data([1.5_f32], &Device::flex()));
        assert_eq!(sum.unwrap().try_to_vec_as::<f32>().unwrap(), [1.5]);
        assert_eq!(alone.agree_on("number", &[f64::NAN]), Ok(()));
        assert_eq!(alone.agree("text", "same"), Ok(()));
    }
}
