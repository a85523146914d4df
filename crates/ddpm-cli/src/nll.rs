//! Measuring a run: checkpoint and data in, bits per dimension out, by one machine or by several.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;

use ddpm_data::{Dataset, classes};
use ddpm_eval::likelihood::{
    BATCH, Estimate, Evaluation, Likelihood, LikelihoodError, Measured, Question,
};
use ddpm_files::check_writable;
use ddpm_model::Network;
use ddpm_model::weights::module_bytes;

use crate::fit;
use crate::interrupt::{Interrupted, Stop};
use crate::memory;
use crate::network::AnyNetwork;
use crate::plan::Plan;
use crate::progress::{FolderProgress, Tally};
use crate::rows::Dtype;
use crate::saved_run::{SavedRun, WeightsOf};
use crate::shard::{self, Part, Parts, Set, Shard};

/// What `ddpm eval nll` is asked.
#[derive(Clone, Debug)]
pub struct NllOptions {
    /// The run, or one of its checkpoints.
    pub from: PathBuf,
    /// The data, where it is not what the run was trained on.
    pub data: Option<PathBuf>,
    /// The question.
    pub question: Question,
}

/// Evaluates a run's averaged weights.
///
/// # Errors
///
/// If the checkpoint or the data cannot be used, or the question does not fit them; and
/// [`Interrupted`] if it is asked to stop.
pub fn measure(options: &NllOptions, device: &Device, stop: &Stop) -> Result<Likelihood> {
    let all = 0..options.question.images;
    Ok(some(options, all, device, stop)?.0.report())
}

/// Evaluates a shard of the images, and leaves a file for [`merge`] in the folder `out`.
///
/// # Errors
///
/// As [`measure`], and if the file is there already or cannot be written.
pub fn measure_shard(
    options: &NllOptions,
    shard: Shard,
    out: &Path,
    device: &Device,
    stop: &Stop,
) -> Result<PathBuf> {
    let path = shard.path(out);
    let shown = path.display();
    ensure!(
        !path.exists(),
        "{shown} is there already: remove it, or choose another --out"
    );
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    check_writable(&path)?;
    let count = options.question.images;
    let rows = shard.rows(count, BATCH);
    let (measured, provenance) = some(options, rows.clone(), device, stop)?;
    let set = Set {
        dtype: Dtype::F64,
        shape: vec![measured.width()],
        count,
        batch: BATCH,
        provenance,
    };
    let bytes: Vec<u8> = (measured.rows().iter())
        .flat_map(|value| value.to_le_bytes())
        .collect();
    // What an earlier process may have begun of it.
    Part::remove(out, shard)?;
    let mut part = Part::open(out, shard, &set)?;
    part.write(rows.start, &bytes)?;
    part.finish()?;
    Ok(path)
}

/// Puts together what the shards of an options have left in the folder `out`.
///
/// # Errors
///
/// If the shards are not all there, whole and of one options.
pub fn merge(out: &Path) -> Result<Likelihood> {
    let mut parts = Parts::open(out)?;
    let bytes = parts.read(0..parts.set.count)?;
    let Set {
        dtype,
        shape,
        provenance,
        ..
    } = parts.set;
    let shown = out.display();
    let number = |key: &str| -> Option<u32> { provenance.get(key)?.parse().ok() };
    let read = || -> Option<Measured> {
        let measured = Measured::empty(
            usize::try_from(number("dimensions")?).ok()?,
            number("timesteps").filter(|timesteps| *timesteps >= 2)?,
            number("times each")?,
            provenance.get("flow")? != "none",
        );
        let fits = dtype == Dtype::F64 && shape == [measured.width()];
        let words = bytes.as_chunks::<8>().0.iter();
        let values: Vec<f64> = words.map(|word| f64::from_le_bytes(*word)).collect();
        fits.then(|| measured.with_rows(&values))
    };
    let what = provenance.get("what").is_some_and(|what| what == BITS);
    let measured = what.then(read).flatten();
    let other = || format!("{shown} holds shards of something else than an evaluation");
    Ok(measured.with_context(other)?.report())
}

/// What a shard of an evaluation says that it is.
const BITS: &str = "bits per dimension";

/// Some images of an options measured, and what makes them a part of it.
fn some(
    options: &NllOptions,
    rows: Range<usize>,
    device: &Device,
    stop: &Stop,
) -> Result<(Measured, shard::Provenance)> {
    let run = SavedRun::open(&options.from)?;
    let mut config = run.config.clone();
    if let Some(data) = &options.data {
        let way_out = || "without --data, the run's own data is evaluated".to_owned();
        config.set_data(data, &run.file, way_out)?;
    }
    let plan = Plan::new(config, &run.file)?;
    let shape = &run.shape;
    let fits = |shape: &[usize], bytes| {
        memory::check_forward(&plan.config.model, shape, BATCH, bytes, device)
    };
    let data = plan.load(1, fits, &mut FolderProgress::new(true));
    let data = data.with_context(|| {
        let kind = plan.config.data.kind.name();
        format!("data of the run's kind, \"{kind}\"")
    })?;
    let data = &*data;
    ensure!(
        data.shape() == shape,
        "the data has rows of shape {:?}, the network is for {shape:?}",
        data.shape()
    );
    check_classes(&plan, data, &run.class_names)?;
    let network = run.network(&plan, shape, WeightsOf::Average, device)?;
    match &network {
        AnyNetwork::UNet(unet) => {
            measured::<4, _>(options, &**unet, &plan, data, rows, device, stop)
        }
        AnyNetwork::Mlp(mlp) => measured::<2, _>(options, &**mlp, &plan, data, rows, device, stop),
    }
}

fn measured<const D: usize, N: Network<D>>(
    options: &NllOptions,
    network: &N,
    plan: &Plan,
    data: &dyn Dataset,
    rows: Range<usize>,
    device: &Device,
    stop: &Stop,
) -> Result<(Measured, shard::Provenance)> {
    let question = &options.question;
    let evaluation = Evaluation {
        network,
        objective: &plan.settings.objective,
        classes: plan.classes(),
        data,
        question,
        device,
    };
    let mut tally = Tally::new("images", 0, rows.len());
    let measured = evaluation.measure::<D>(rows, |progress| {
        tally.at(progress.done, "");
        stop.asked().is_none()
    });
    let measured = match (measured, stop.asked()) {
        (Err(LikelihoodError::Stopped { done, images }), Some(signal)) => {
            let done = format!("{done} of {images} images");
            return Err(Interrupted { signal, done }.into());
        }
        (Err(error @ LikelihoodError::Images { .. }), _) => {
            return Err(anyhow::Error::from(error).context("--num"));
        }
        (measured, _) => measured?,
    };
    let provenance = provenance(question, &measured, data, network)?;
    Ok((measured, provenance))
}

/// That the data has the classes which the network was trained on, `names` as far as they are known; or
/// none, if the network has a class that means none.
fn check_classes(plan: &Plan, data: &dyn Dataset, names: &[String]) -> Result<()> {
    if data.classes().is_none() && plan.null_class().is_some() {
        return Ok(());
    }
    fit::check_classes(plan, data)?;
    let renamed = classes::renamed(names, data.class_names());
    if let (Some(renamed), Some(_)) = (renamed, plan.classes()) {
        bail!("the classes are not those of the run: {renamed}");
    }
    Ok(())
}

/// What the numbers of an image depend on.
fn provenance<N: Module>(
    question: &Question,
    measured: &Measured,
    data: &dyn Dataset,
    network: &N,
) -> Result<shard::Provenance> {
    let network = module_bytes(network).map_err(anyhow::Error::msg)?;
    let flow = question
        .flow
        .map_or("none".to_owned(), |steps| format!("{steps} steps"));
    let entries = [
        ("what", BITS.to_owned()),
        ("network", shard::hash(&network)),
        ("data", format!("SHA-256 {}", data.fingerprint())),
        ("seed", question.seed.to_string()),
        ("dimensions", measured.dimensions.to_string()),
        ("timesteps", measured.timesteps.to_string()),
        ("times each", measured.times.to_string()),
        ("flow", flow),
    ];
    Ok(entries.map(|(name, text)| (name.to_owned(), text)).into())
}

/// The report as a table.
pub fn report(report: &Likelihood) -> String {
    let mut text = format!(
        "{:<32}{:>12}{:>12}\n",
        "bits per dimension", "mean", "std. error"
    );
    let how = if report.exact { "all" } else { "drawn" };
    let steps = format!("Σ L_{{t−1}}, {} t each, {how}", report.times);
    let rows = [
        ("prior, L_T".to_owned(), Some(report.prior)),
        (steps, Some(report.steps)),
        ("decoder, L₀".to_owned(), Some(report.decoder)),
        ("bound".to_owned(), Some(report.bound)),
        ("probability flow".to_owned(), report.flow),
    ];
    for (name, estimate) in rows {
        if let Some(Estimate { mean, error }) = estimate {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<32}{mean:>12.5}{error:>12.5}");
        }
    }
    let _ = writeln!(
        text,
        "{} images of {} numbers",
        report.images, report.dimensions
    );
    text
}
