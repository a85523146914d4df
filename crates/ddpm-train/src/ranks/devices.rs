//! The ranks as threads of one process, each with a device.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use super::error::RanksError;
use super::meeting::Meeting;
use super::rank::Ranks;
use super::team::{Team, by_host};
use crate::device::has_collectives;

/// Runs `work` as one rank on each of the devices, and returns what the first one came to. A device
/// may be given more than once.
///
/// Gradients are summed by the devices themselves (NCCL) where they can, and by the host otherwise.
///
/// When the work of a rank ends, by an error, by a panic or as it should, the others no longer wait
/// for it: whoever would need it gets [`RanksError::Failed`] with the reason.
///
/// # Errors
///
/// If a rank has an error, or the system does not start its thread: the error of the first rank that
/// has one of its own, and not another's failure.
///
/// # Panics
///
/// If there are no devices, and if a rank panics, once all have ended.
pub fn on_devices<T, E>(
    devices: &[Device],
    work: impl Fn(&Ranks, &Device) -> Result<T, E> + Sync,
) -> Result<T, OfRank<E>>
where
    T: Send,
    E: From<RanksError> + Display + Send,
{
    if let [device] = devices {
        return work(&Ranks::default(), device).map_err(|error| OfRank { rank: 0, error });
    }
    let meetings = Arc::new(Meetings::of(devices.len()));
    let run = |rank: usize| {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let team = Member::new(rank, meetings.clone(), devices)?;
            let ranks = Ranks {
                team: Some(Arc::new(team)),
            };
            work(&ranks, &devices[rank])
        }));
        meetings.leave(rank, &outcome);
        outcome
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = (1..devices.len())
            .map(|rank| {
                let thread = thread::Builder::new().name(format!("rank {rank}"));
                let started = thread.spawn_scoped(scope, move || run(rank));
                started.map_err(|error| {
                    let reason = error.to_string();
                    let outcome = Ok(Err(RanksError::NotStarted { rank, reason }.into()));
                    meetings.leave(rank, &outcome);
                    outcome
                })
            })
            .collect();
        let first = run(0);
        let others = others.into_iter().map(|other| match other {
            Ok(thread) => thread.join().unwrap_or_else(Err),
            Err(outcome) => outcome,
        });
        std::iter::once(first).chain(others).collect()
    });
    settle(outcomes, &meetings)
}

/// The error of one of the ranks.
#[derive(Debug)]
pub struct OfRank<E> {
    /// The rank.
    pub rank: usize,
    /// Its error.
    pub error: E,
}

/// What a rank's work came to: an error of `thread::Result` is a panic.
type Outcome<T, E> = thread::Result<Result<T, E>>;

/// What all ranks together came to.
fn settle<T, E>(outcomes: Vec<Outcome<T, E>>, meetings: &Meetings) -> Result<T, OfRank<E>> {
    let outcomes = outcomes.into_iter();
    let mut outcomes: Vec<Result<T, E>> = outcomes
        .map(|outcome| outcome.unwrap_or_else(|panic| resume_unwind(panic)))
        .collect();
    let mut each = outcomes.iter().enumerate();
    let is_own = |(rank, outcome): (usize, &Result<T, E>)| {
        outcome.is_err() && !meetings.failed[rank].load(Ordering::Relaxed)
    };
    let rank = each.position(is_own).unwrap_or(0);
    let outcome = outcomes.swap_remove(rank);
    outcome.map_err(|error| OfRank { rank, error })
}

/// What the threads share.
struct Meetings {
    numbers: Meeting<f64>,
    gradients: Meeting<f32>,
    /// The ranks that were told of another's failure: their errors are not their own.
    failed: Vec<AtomicBool>,
}

impl Meetings {
    fn of(ranks: usize) -> Self {
        Self {
            numbers: Meeting::of(ranks),
            gradients: Meeting::of(ranks),
            failed: (0..ranks).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Tells the others that a rank will not come any more, and why.
    fn leave<T, E: Display>(&self, rank: usize, outcome: &Outcome<T, E>) {
        let reason = match outcome {
            Ok(Err(error)) => format!("{error:#}"),
            Ok(Ok(_)) => "it has ended".to_owned(),
            Err(_) => "it panicked".to_owned(),
        };
        let reason = RanksError::Failed { rank, reason };
        self.numbers.leave(&reason);
        self.gradients.leave(&reason);
    }
}

/// One of the threads.
struct Member {
    rank: usize,
    size: usize,
    meetings: Arc<Meetings>,
    /// All devices, if they sum among themselves.
    collective: Option<Vec<Device>>,
}

impl Member {
    fn new(rank: usize, meetings: Arc<Meetings>, devices: &[Device]) -> Result<Self, RanksError> {
        let mut member = Self {
            rank,
            size: devices.len(),
            meetings,
            collective: None,
        };
        let each_once = (1..devices.len()).all(|i| !devices[..i].contains(&devices[i]));
        let capable = each_once && devices.iter().all(has_collectives);
        if capable && member.proves(devices)? {
            member.collective = Some(devices.to_vec());
        }
        Ok(member)
    }

    /// What a meeting gave, after noting whether it was another's failure.
    fn heard<T>(&self, met: Result<T, RanksError>) -> Result<T, RanksError> {
        if met.is_err() {
            self.meetings.failed[self.rank].store(true, Ordering::Relaxed);
        }
        met
    }

    /// Whether all ranks see the devices' sum of 1, …, n come to n(n + 1)/2. A library that is missing
    /// or does not work is found here, where there is another way, and not in the first step.
    fn proves(&self, devices: &[Device]) -> Result<bool, RanksError> {
        let (own, n) = (self.rank as f32 + 1.0, self.size as f32);
        let sum = || {
            let own = Tensor::<1>::from_data([own], &devices[self.rank]);
            let sum = all_reduce(own, ReduceOperation::Sum, devices.to_vec());
            sum.resolve().try_to_vec_as::<f32>().ok()
        };
        let sum = catch_unwind(AssertUnwindSafe(sum)).ok().flatten();
        let right = sum == Some(vec![n * (n + 1.0) / 2.0]);
        let all = self.gather(&[f64::from(u8::from(right))])?;
        Ok(all.iter().all(|&right| right == 1.0))
    }
}

impl Team for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn local_size(&self) -> usize {
        self.size
    }

    fn gather(&self, values: &[f64]) -> Result<Vec<f64>, RanksError> {
        let all = self.meetings.numbers.exchange(self.rank, values.to_vec());
        let all = self.heard(all)?;
        let values = all.iter().flat_map(|values| values.iter().copied());
        Ok(values.collect())
    }

    fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>, RanksError> {
        if let Some(devices) = &self.collective {
            // The devices wait without end for one that does not come; here it is known first.
            self.gather(&[])?;
            let sum = all_reduce(values, ReduceOperation::Sum, devices.clone());
            return Ok(sum.resolve());
        }
        by_host(&values, |values| {
            let all = self.meetings.gradients.exchange(self.rank, values);
            let all = self.heard(all)?;
            // In the order of ranks on every one of them, so that all round alike.
            let mut sums = all[0].to_vec();
            for values in &all[1..] {
                for (sum, value) in sums.iter_mut().zip(values.iter()) {
                    *sum += value;
                }
            }
            Ok(sums)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// An error of the caller's own.
    #[derive(Debug)]
    struct Text(String);

    impl From<RanksError> for Text {
        fn from(error: RanksError) -> Self {
            Self(error.to_string())
        }
    }

    impl Display for Text {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }

    /// Three ranks on one device: everyone has all numbers in the order of ranks, and the sums, again
    /// and again.
    #[test]
    fn threads_exchange_numbers_and_sums() {
        let devices = vec![Device::flex(); 3];
        let sum = on_devices(&devices, |ranks, device| {
            assert_eq!(ranks.size(), 3);
            let rank = ranks.rank() as f64;
            for round in 0..100 {
                let round = f64::from(round);
                let all = ranks.gather(&[rank, rank + round])?;
                assert_eq!(all, [0.0, round, 1.0, 1.0 + round, 2.0, 2.0 + round]);
            }
            let own = Tensor::from_data([1.0, ranks.rank() as f32], device);
            let sum = ranks.sum(own)?.try_to_vec_as::<f32>();
            sum.map_err(|error| RanksError::Device(error.to_string()))
        });
        assert_eq!(sum.unwrap(), [3.0, 3.0]);
    }

    #[test]
    fn a_rank_that_has_something_else_is_named() {
        let devices = vec![Device::flex(); 2];
        let agreed = on_devices(&devices, |ranks, _| {
            ranks.agree("text", if ranks.leads() { "a" } else { "b" })
        });
        assert_eq!(
            agreed.unwrap_err().error.to_string(),
            "rank 1 has another text than rank 0"
        );
    }
    /// The third of three ranks fails while the others wait for it, for numbers or for a sum: they
    /// return, with its error, and that is what all of them come to.
    #[test]
    fn the_error_of_one_rank_reaches_the_others() {
        let heard = Mutex::new(Vec::new());
        let outcome = on_devices(&vec![Device::flex(); 3], |ranks, device| {
            ranks.wait()?;
            let others = match ranks.rank() {
                0 => ranks.wait(),
                1 => ranks.sum(Tensor::from_data([1.0], device)).map(|_| ()),
                _ => return Err(Text("no more rows".to_owned())),
            };
            let error = others.unwrap_err();
            heard.lock().unwrap().push(error.to_string());
            Err::<(), _>(Text::from(error))
        });
        let own = outcome.unwrap_err();
        assert_eq!((own.rank, own.error.0.as_str()), (2, "no more rows"));
        let heard = heard.into_inner().unwrap();
        assert_eq!(heard, ["rank 2 failed: no more rows"; 2]);
    }

    /// A rank that panics is waited for no longer, and its panic is everyone's.
    #[test]
    fn the_panic_of_one_rank_reaches_the_others() {
        let heard = Mutex::new(None);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            on_devices(&vec![Device::flex(); 2], |ranks, _| {
                assert!(ranks.leads(), "rank 1 cannot");
                let outcome = ranks.wait();
                *heard.lock().unwrap() = outcome.clone().err();
                outcome
            })
        }));
        let panic = outcome.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"rank 1 cannot"));
        let (rank, reason) = (1, "it panicked".to_owned());
        let failed = RanksError::Failed { rank, reason };
        assert_eq!(heard.into_inner().unwrap(), Some(failed));
    }

    /// A rank that has ended is not waited for either.
    #[test]
    fn a_rank_that_has_ended_is_not_waited_for() {
        let outcome = on_devices(&vec![Device::flex(); 2], |ranks, _| match ranks.rank() {
            0 => ranks.wait(),
            _ => Ok(()),
        });
        let error = outcome.unwrap_err().error.to_string();
        assert_eq!(error, "rank 1 failed: it has ended");
    }
}
