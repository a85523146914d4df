//! The losses of several runs on one plot, and their means over the last quarter of the steps.
//!
//! ```text
//! losses RUN… > losses.svg
//! ```

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use ddpm_cli::plot::{Line, Scale, svg, thin};

/// One color per run.
const COLORS: [&str; 4] = ["steelblue", "darkorange", "seagreen", "purple"];

/// Points per line: fewer than there are steps, so that the noise of single batches does not hide
/// the curve.
const POINTS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let runs: Vec<String> = env::args().skip(1).collect();
    if runs.is_empty() || runs.len() > COLORS.len() {
        return Err(format!("usage: losses RUN…, with at most {} runs", COLORS.len()).into());
    }
    let mut lines = Vec::new();
    for (run, color) in runs.iter().zip(COLORS) {
        let points = losses(Path::new(run))?;
        let last = &points[points.len() * 3 / 4..];
        let mean = last.iter().map(|(_, loss)| loss).sum::<f64>() / last.len() as f64;
        eprintln!(
            "{run}: mean loss {mean:.5} over the last {} steps",
            last.len()
        );
        let name = Path::new(run).file_name().and_then(|name| name.to_str());
        lines.push(Line {
            name: name.unwrap_or(run),
            color,
            points: thin(&points, POINTS),
        });
    }
    print!("{}", svg("step", &lines, [Scale::Linear, Scale::Log]));
    Ok(())
}

/// Steps and losses of a run.
fn losses(run: &Path) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    let path = run.join("metrics.jsonl");
    let shown = path.display();
    let text = fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
    let mut points = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let (step, loss) = (line["step"].as_f64(), line["loss"].as_f64());
        let point = step.zip(loss);
        points.push(point.ok_or_else(|| format!("{shown}, line {}: no loss", number + 1))?);
    }
    if points.is_empty() {
        return Err(format!("{shown}: no steps").into());
    }
    Ok(points)
}
