//! The tables of `docs/scale.md`, and the words around them.

use super::cost::{Checkpoint, Cost};
use std::fmt::Write as _;

/// Bytes of an f32.
const FLOAT: f64 = 4.0;

/// Everything that was measured.
pub(super) struct Tables<'a> {
    pub(super) single: &'a [Cost],
    pub(super) divided: &'a [Cost],
    pub(super) checkpoints: &'a [Checkpoint],
}

impl Tables<'_> {
    /// All tables, for a terminal.
    pub(super) fn text(&self) -> String {
        [
            steps(self.single),
            divided(self.divided),
            checkpoints(self.checkpoints),
        ]
        .join("\n")
    }

    /// The whole page.
    pub(super) fn page(&self) -> String {
        let (steps, divided) = (steps(self.single), divided(self.divided));
        let checkpoints = checkpoints(self.checkpoints);
        let ratio = ratio(self.divided);
        format!(
            "\
# Scale

`cargo xtask scale` writes this page. It was measured on two cores of an x86-64 processor with AVX2,
in f32 on Flex; each number is the median of three alternating rounds of a round's median step.

## A step

The digits' U-Net (two levels, attention in the second), on gray images; the work of a training step,
AdamW, clipping and average included. One setting differs from the second row in one thing at a time.

{steps}
Cost grows with the batch and with the number of pixels as they do, a little less while both are small;
with the square of the channels, less what does not depend on them.

## Several processes

With the cargo feature `mpi` (`cargo build --release -p ddpm-cli --features mpi`; it takes an MPI of the
system and libclang), `mpirun -n 4 ddpm train …` divides each batch evenly among four processes.
Rows, times, noise, dropout and dropped classes are keyed by a row's position in the run, so every
process computes exactly what one alone would compute for its rows. Gradients are summed over all of
them, and each makes the same update; that they agree is checked at every step, bit for bit. The run on
n processes is therefore the run on one but for the order in which sums are rounded. A test trains on
1, 2 and 4 processes with everything on (`cargo xtask mpi`): losses and norms of gradients of all steps
agree within 1e-4 relative, weights within 1e-4.

Every process reads the data and, on resuming, the checkpoint for itself, so the run's folder must be on
a file system that all of them see; that all have the same configuration, data and weights is checked
before the first step. The first one alone writes. A process that dies ends the job; `mpirun` says which
it was; `--resume` goes on, with any number of processes that divides the batch. A signal to any of them
stops all after the same step. `mpirun` itself, when it is interrupted, gives its processes a second
(Open MPI 4: `--mca odls_base_sigkill_timeout 60` gives more).

On GPUs each process takes the next device of its machine.

Several GPUs of one machine need no MPI: `ddpm train --backend cuda --devices 0,1` trains with a thread
for each. Those ranks sum gradients by the devices themselves (Burn's collective operations, NCCL) if a
sum of known value comes out right on all of them when the run begins, and by the host if not. On a CPU,
which is one device, tests train with `--devices 0,0` and `0,0,0,0`: the same run within the same
bounds, and byte for byte the same each time, resumed or whole. The way by NCCL has been compiled and
never run: no machine with two GPUs was at hand.

{divided}
Two processes of one thread take {ratio:.2} times as long as one process of two threads: they pay for their
sums, and are spared the waiting of threads for one another in every operation.

Bytes exchanged by a process at each step, of P weights among n processes: the sum of gradients hands on
2·(n − 1)/n·4P (ring), plus 24 bytes of loss, norm and signals, and 8 bytes a row where times are
drawn by losses. Sums are made once the backward pass is over: Burn 0.22 has no place in it where a
gradient is known to be complete, so nothing overlaps. They go in messages of whole tensors, about
16 MiB each.

Samples and evaluations need no exchange at all: `ddpm sample --shard 2/4`, `ddpm eval nll --shard 2/4`
on any machines, then `--merge`, which checks that all shards are there, whole, and of one order. The
result is byte for byte the one of a single machine.

## A checkpoint

Tensors are copied to the host between two steps (the stall); hashing, writing, syncing and renaming go
on beside the steps that follow. The copy waits for the checkpoint before it, if that is still being
written.

{checkpoints}
A checkpoint is four copies of the weights: the weights, their average, two moments. The first copy also
takes its memory from the system. (The 35.7 M weights of cifar10 are trained at batch 16 here; at the
recipe's 128 the wait is the same, and a step eight times as long.)

## Where each ends

*One machine* ends where a step is too slow, not where memory ends: weights, gradients, moments and
average take 20 bytes a weight, 0.7 GB for the 35.7 M of CIFAR-10's network; activations take the rest, and
`accumulate` divides them. What is asked for is estimated before anything is allocated, and refused
with both numbers if the machine has less.

*One node* of several processes divides the batch without a network in between. It ends when rows of a
process are too few to fill it: the table's batch of 8 costs more than a quarter of that of 32.

*A cluster* ends where the sum of gradients takes as long as a step. With 143 MB of gradients and links of
10 Gbit/s a ring takes 2·143 MB / 1.25 GB/s = 0.23 s, little beside a CPU's step of seconds, and perhaps
more than a large GPU's whole step; with links of 400 Gbit/s it is 6 ms.

## A run on 1,000 GPUs

What it would need, and what of it is there:

| needed | here |
|---|---|
| the same run for any number of processes | yes, tested for 1, 2 and 4 on one machine's CPU |
| sums of gradients between GPUs (NCCL), not by way of the host | among the GPUs of one machine, never run; between machines no: gradients are copied to the host and back |
| sums that overlap the backward pass | no: the autodiff engine has no hooks |
| optimizer state divided among processes | no, and not needed below some billions of weights |
| data that no process holds whole | no: every process reads all of it; a stream of shards would be needed |
| a batch for 1,000 | `batch_size`, `warmup` and `accumulate` are there; what learning rate it takes is research |
| loss of a machine | the job stops and resumes from the newest checkpoint with fewer; nothing goes on without stopping. At one interruption a day a checkpoint every ten minutes loses a third of a percent |
| writing checkpoints | one process writes; 0.57 GB for CIFAR-10's network is nothing, a hundred times as much would want every process to write its part |
| samples and scores | shards, without communication |
| more than one GPU for one network | no: neither tensors nor layers are divided |

None of it was measured on more than one machine or on a GPU.
"
        )
    }
}

fn steps(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| image | channels | weights | batch | step | lowest to highest | images/s |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
    );
    for cost in costs {
        let setting = &cost.setting;
        let [seconds, low, high] = cost.seconds.map(|s| 1e3 * s);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {0}×{0} | {1} | {2:.0} | {3} | {seconds:.0} ms | {low:.0} to {high:.0} | {4:.0} |",
            setting.side,
            setting.channels,
            cost.parameters,
            setting.batch,
            setting.batch as f64 / cost.seconds[0],
        );
    }
    text
}

fn divided(costs: &[Cost]) -> String {
    let mut text = String::from(
        "| processes | threads each | step | lowest to highest | bytes a step, each |\n\
         |--:|--:|--:|--:|--:|\n",
    );
    for cost in costs {
        let [seconds, low, high] = cost.seconds.map(|s| 1e3 * s);
        let n = cost.setting.processes as f64;
        let bytes = 2.0 * (n - 1.0) / n * FLOAT * cost.parameters;
        let _ = writeln!(
            text,
            "| {n} | {} | {seconds:.0} ms | {low:.0} to {high:.0} | {:.1} MB |",
            cost.setting.threads,
            bytes / 1e6,
        );
    }
    text
}

/// How much longer two processes of one thread take than one of two.
fn ratio(costs: &[Cost]) -> f64 {
    let of = |processes, threads| {
        let mut costs = costs.iter();
        let cost = costs
            .find(|cost| (cost.setting.processes, cost.setting.threads) == (processes, threads));
        cost.map_or(f64::NAN, |cost| cost.seconds[0])
    };
    of(2, 1) / of(1, 2)
}

fn checkpoints(costs: &[Checkpoint]) -> String {
    let mut text = String::from(
        "| recipe | weights | bytes | written in | the loop waits, first and last | a step | the last wait, in steps |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    for cost in costs {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} MB | {:.0} ms | {:.1} and {:.1} ms | {:.0} ms | {:.3} |",
            cost.name,
            cost.parameters,
            cost.bytes / 1e6,
            1e3 * cost.seconds,
            1e3 * cost.stalls[0],
            1e3 * cost.stalls[1],
            1e3 * cost.step,
            cost.stalls[1] / cost.step,
        );
    }
    text
}
