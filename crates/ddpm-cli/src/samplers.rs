//! The table of samplers, as text and as JSON.

use ddpm_schedule::solver::Info;
use serde::Serialize;

/// The width of a line.
const WIDTH: usize = 80;

/// A sampler, as `ddpm samplers --json` shows it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Our name.
    pub name: &'static str,
    /// The order of the error against the length of a step.
    pub order: u32,
    /// Network evaluations a step.
    pub evaluations: u32,
    /// Whether noise is added.
    pub stochastic: bool,
    /// Steps that give good samples of images.
    pub steps: u32,
    /// The names of diffusers, k-diffusion and ComfyUI.
    pub aliases: Vec<&'static str>,
    /// The options it has.
    pub numbers: &'static [&'static str],
    /// Where its formula stands.
    pub paper: &'static str,
}

/// Every sampler.
pub fn rows() -> Vec<Row> {
    let row = |info: &Info| Row {
        name: info.name,
        order: info.order,
        evaluations: info.evaluations,
        stochastic: info.stochastic,
        steps: info.steps,
        aliases: info.aliases().collect(),
        numbers: info.parameters,
        paper: info.paper,
    };
    Info::all().iter().map(row).collect()
}

/// The table as text.
pub fn table() -> String {
    let mut text = format!(
        "{:<20} order  evaluations  noise  steps  options\n",
        "sampler"
    );
    for info in Info::all() {
        let noise = if info.stochastic { "yes" } else { "no" };
        let options: Vec<_> = info.parameters.iter().map(|n| format!("--{n}")).collect();
        let line = format!(
            "{:<20} {:>5}  {:>11}  {noise:<5}  {:>5}  {}",
            info.name,
            info.order,
            info.evaluations,
            info.steps,
            options.join(" ")
        );
        text += line.trim_end();
        text.push('\n');
        for (title, names) in [
            ("diffusers", info.diffusers),
            ("k-diffusion", info.k_diffusion),
            ("ComfyUI", info.comfyui),
        ] {
            if !names.is_empty() {
                text += &wrapped(&format!("{title}: {}", names.join(", ")));
            }
        }
        text += &wrapped(info.paper);
    }
    text
}

/// Words in lines of [`WIDTH`] columns, each indented.
fn wrapped(words: &str) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && 5 + line.chars().count() + word.chars().count() > WIDTH {
            text += "    ";
            text += &line;
            text.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    text + &format!("    {line}\n")
}
