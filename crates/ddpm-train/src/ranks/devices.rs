//! The ranks as threads of one process, each with a device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use burn::tensor::distributed::{ReduceOperation, all_reduce};
use burn::tensor::{Device, Tensor};

use super::{Ranks, Team, by_host};
use crate::device::has_collectives;

/// Runs `work` as one rank on each of the devices, and returns what the first one came to. A device
/// may be given more than once.
///
/// Gradients are summed by the devices themselves (NCCL) where they can, and by the host otherwise.
///
/// # Panics
///
/// If there are no devices, or the system starts no thread. A rank that panics ends the process, for the others would wait
/// for it for ever.
pub fn on_devices<T: Send>(devices: &[Device], work: impl Fn(&Ranks, &Device) -> T + Sync) -> T {
    let meeting = Arc::new(Meeting {
        numbers: Exchange::of(devices.len()),
        gradients: Exchange::of(devices.len()),
    });
    let run = |rank: usize| {
        let _all = Together;
        let ranks = match devices.len() {
            1 => Ranks::default(),
            _ => Ranks {
                team: Some(Box::new(Member::new(rank, meeting.clone(), devices))),
            },
        };
        work(&ranks, &devices[rank])
    };
    thread::scope(|scope| {
        let run = &run;
        for rank in 1..devices.len() {
            scope.spawn(move || run(rank));
        }
        run(0)
    })
}

/// Ends the process where its thread panics.
struct Together;

impl Drop for Together {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(101);
        }
    }
}

/// Where threads exchange values.
struct Exchange<T> {
    rows: Mutex<Vec<Arc<Vec<T>>>>,
    all_here: Barrier,
}

impl<T> Exchange<T> {
    fn of(ranks: usize) -> Self {
        Self {
            rows: Mutex::new(vec![Arc::default(); ranks]),
            all_here: Barrier::new(ranks),
        }
    }

    /// Every rank's values, in the order of ranks.
    fn swap(&self, rank: usize, values: Vec<T>) -> Vec<Arc<Vec<T>>> {
        let rows = || self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows()[rank] = Arc::new(values);
        self.all_here.wait();
        let all = rows().clone();
        // Nobody writes anew what another has not read yet.
        self.all_here.wait();
        all
    }
}

/// What the threads share.
struct Meeting {
    numbers: Exchange<f64>,
    gradients: Exchange<f32>,
}

/// One of the threads.
struct Member {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
    /// All devices, if they sum among themselves.
    collective: Option<Vec<Device>>,
}

impl Member {
    fn new(rank: usize, meeting: Arc<Meeting>, devices: &[Device]) -> Self {
        let mut member = Self {
            rank,
            size: devices.len(),
            meeting,
            collective: None,
        };
        let each_once = (1..devices.len()).all(|i| !devices[..i].contains(&devices[i]));
        let capable = each_once && devices.iter().all(has_collectives);
        if capable && member.proves(devices) {
            member.collective = Some(devices.to_vec());
        }
        member
    }

    /// Whether all ranks see the devices' sum of 1, …, n come to n(n + 1)/2. A library that is missing
    /// or does not work is found here, where there is another way, and not in the first step.
    fn proves(&self, devices: &[Device]) -> bool {
        let (own, n) = (self.rank as f32 + 1.0, self.size as f32);
        let sum = || {
            let own = Tensor::<1>::from_data([own], &devices[self.rank]);
            let sum = all_reduce(own, ReduceOperation::Sum, devices.to_vec());
            sum.resolve().try_to_vec_as::<f32>().ok()
        };
        let sum = catch_unwind(AssertUnwindSafe(sum)).ok().flatten();
        let right = sum == Some(vec![n * (n + 1.0) / 2.0]);
        let all = self.gather(&[f64::from(u8::from(right))]);
        all.iter().all(|&right| right == 1.0)
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

    fn gather(&self, values: &[f64]) -> Vec<f64> {
        let all = self.meeting.numbers.swap(self.rank, values.to_vec());
        all.iter()
            .flat_map(|values| values.iter().copied())
            .collect()
    }

    fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>> {
        if let Some(devices) = &self.collective {
            let sum = all_reduce(values, ReduceOperation::Sum, devices.clone());
            return Ok(sum.resolve());
        }
        by_host(&values, |values| {
            let all = self.meeting.gradients.swap(self.rank, values);
            // In the order of ranks on every one of them, so that all round alike.
            let mut sums = all[0].to_vec();
            for values in &all[1..] {
                for (sum, value) in sums.iter_mut().zip(values.iter()) {
                    *sum += value;
                }
            }
            sums
        })
    }

    fn abort(&self, code: i32) {
        std::process::exit(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                let all = ranks.gather(&[rank, rank + round]);
                assert_eq!(all, [0.0, round, 1.0, 1.0 + round, 2.0, 2.0 + round]);
            }
            let own = Tensor::from_data([1.0, ranks.rank() as f32], device);
            ranks.sum(own).unwrap().try_to_vec_as::<f32>().unwrap()
        });
        assert_eq!(sum, [3.0, 3.0]);
    }

    #[test]
    fn a_rank_that_has_something_else_is_named() {
        let devices = vec![Device::flex(); 2];
        let agreed = on_devices(&devices, |ranks, _| {
            ranks.agree("text", if ranks.leads() { "a" } else { "b" })
        });
        assert_eq!(
            agreed.unwrap_err().to_string(),
            "rank 1 has another text than rank 0"
        );
    }
}
