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

`cargo xtask scale` writes this page. It was measured on two cores of an x86-64 processor with AVX2, in
f32 on Flex. Each number is the median over three alternating rounds of a round's median step.

## A step

A training step of the digits' U-Net (two levels, attention in the second) on gray images, including
AdamW, clipping and the moving average. Each row differs from the second row in one setting.

{steps}
Cost grows in proportion to the batch and to the number of pixels, a little more slowly while both are
small. It grows almost with the square of the channels, because part of the work does not depend on them.

## Several processes

With the cargo feature `mpi` (`cargo build --release -p ddpm-cli --features mpi`; it needs an MPI
installation and libclang), `mpirun -n 4 ddpm train …` divides each batch evenly among four processes.
Rows, times, noise, dropout and dropped classes are keyed by a row's position in the run, so every
process computes for its rows exactly what a single process would. Gradients are summed over all
processes, and each makes the same update; every step checks that they agree bit for bit. The run on n
processes therefore differs from the run on one only in the order in which sums are rounded. A test
trains on 1, 2 and 4 processes with all features enabled (`cargo xtask mpi`): losses and gradient norms
of all steps agree within 1e-4 relative, weights within 1e-4.

Every process reads the data and, on resuming, the checkpoint, so the run's folder must be on a file
system that all of them see. Before the first step they check that all have the same configuration, data
and weights. Only the first process writes. A process that dies ends the job, and `mpirun` names the
process; `--resume` continues the run with any number of processes that divides the batch. A signal to
one process stops all of them after the same step. When `mpirun` itself is interrupted, it gives its
processes one second (Open MPI 4: `--mca odls_base_sigkill_timeout 60` gives more).

On GPUs each process uses the next device of its machine.

Several GPUs of one machine need no MPI: `ddpm train --backend cuda --devices 0,1` trains with one thread
per GPU. When the run starts, these ranks test a sum of known value on the devices (Burn's collective
operations, NCCL). If the result is right on all of them, they sum gradients on the devices, otherwise on
the host. On a CPU, which is one device, tests train with `--devices 0,0` and `0,0,0,0`: the run agrees
within the same bounds, and repeated or resumed it is the same byte for byte. The NCCL path has been
compiled but never run, because no machine with two GPUs was available.

{divided}
Two processes of one thread take {ratio:.2} times as long as one process of two threads: they pay for the
sums of gradients, but their threads do not wait for each other in every operation.

With P weights and n processes, a process sends 2·(n − 1)/n·4P bytes of gradients per step (ring), 24
bytes of loss, norm and signals, and 8 bytes per row if times are drawn by losses. The sums start after
the backward pass and do not overlap with it, because Burn 0.22 does not report when a gradient is
complete. They are sent in messages of whole tensors, about 16 MiB each.

Samples and evaluations need no communication: run `ddpm sample --shard 2/4` or
`ddpm eval nll --shard 2/4` on any machines, then `--merge`, which checks that all shards exist, are
complete and belong together. The result is byte for byte that of a single machine.

## A checkpoint

Tensors are copied to the host between two steps (the stall); hashing, writing, syncing and renaming run
in parallel with the following steps. The copy waits for the previous checkpoint if that is still being
written.

{checkpoints}
A checkpoint has the size of four copies of the weights: the weights, their average, two moments. The
first copy also allocates its memory. (The 35.7 M weights of cifar10 are trained at batch 16 here; at the
recipe's 128 the wait is the same, and a step takes eight times as long.)

## Limits

*One machine* is limited by the time of a step, not by memory: weights, gradients, moments and average
take 20 bytes per weight, 0.7 GB for the 35.7 M of CIFAR-10's network; activations take the rest, and
`accumulate` divides them. The required memory is estimated before anything is allocated; if the machine
has less, an error states both numbers.

*One node* with several processes divides the batch without a network in between. The limit is reached
when a process has too few rows to work efficiently: the table's batch of 8 costs more than a quarter of
that of 32.

*A cluster* reaches its limit when the sum of gradients takes as long as a step. With 143 MB of gradients
and links of 10 Gbit/s a ring takes 2·143 MB / 1.25 GB/s = 0.23 s: little compared with seconds for a
step on a CPU, but perhaps more than a whole step on a large GPU. With links of 400 Gbit/s it takes 6 ms.

## A run on 1,000 GPUs

The requirements, and whether they are met:

| needed | here |
|---|---|
| the same run for any number of processes | yes, tested for 1, 2 and 4 on one machine's CPU |
| sums of gradients between GPUs (NCCL), not through the host | on one machine yes, but never run; between machines no: gradients are copied to the host and back |
| sums that overlap the backward pass | no: the autodiff engine has no hooks |
| optimizer state divided among processes | no, and not needed below a few billion weights |
| data that no process holds whole | no: every process reads all of it; a stream of shards would be needed |
| a batch for 1,000 | `batch_size`, `warmup` and `accumulate` exist; the right learning rate is a research question |
| loss of a machine | the job stops and resumes from the newest checkpoint with fewer machines; it cannot continue without stopping. With one interruption per day and a checkpoint every ten minutes, a third of a percent of the time is lost |
| writing checkpoints | one process writes; this is enough for the 0.57 GB of CIFAR-10's network, but with a hundred times as much every process should write its part |
| samples and scores | shards, without communication |
| more than one GPU for one network | no: neither tensors nor layers are divided |

Nothing on this page was measured on more than one machine or on a GPU.
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
        "| processes | threads each | step | lowest to highest | bytes per step, each |\n\
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
        "| recipe | weights | bytes | written in | the loop waits, first and last | step | the last wait, in steps |\n\
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
