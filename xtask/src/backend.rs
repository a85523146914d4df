//! The backends a command can name, and the cargo feature that compiles each in.

use std::ffi::{OsStr, OsString};
use xtask::Refusal;

/// A backend that the program `ddpm` and the benchmarks can be compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Flex,
    Ndarray,
    Cuda,
    Vulkan,
}

impl Backend {
    pub(crate) const ALL: [Self; 4] = [Self::Flex, Self::Ndarray, Self::Cuda, Self::Vulkan];

    /// Its name in `--backend NAME`; its cargo feature has the same name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
        }
    }

    /// Cargo's arguments that compile it in; none for flex, which is a default feature.
    pub(crate) fn cargo_arguments(self) -> Vec<&'static str> {
        match self {
            Self::Flex => Vec::new(),
            other => vec!["--features", other.name()],
        }
    }

    fn from_name(name: &OsStr) -> Result<Self, Refusal> {
        Self::ALL
            .into_iter()
            .find(|backend| name == backend.name())
            .ok_or_else(|| {
                Refusal(format!(
                    "unknown backend `{}`; known: {}",
                    name.display(),
                    Self::ALL.map(Self::name).join(", ")
                ))
            })
    }
}

/// The backend among a program's arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) backend: Backend,
    /// The other arguments.
    pub(crate) rest: Vec<OsString>,
}

/// Reads `--backend NAME` or `--backend=NAME` before the first `--`; the default is flex.
///
/// # Errors
/// The name is unknown or missing, or `--backend` is given twice.
pub(crate) fn choose(arguments: &[OsString]) -> Result<Choice, Refusal> {
    let mut chosen = None;
    let mut rest = Vec::new();
    let mut remaining = arguments.iter();
    while let Some(argument) = remaining.next() {
        let text = argument.to_string_lossy();
        let name = if text == "--" {
            rest.push(argument.clone());
            rest.extend(remaining.cloned());
            break;
        } else if text == "--backend" {
            remaining.next().map_or(OsStr::new(""), OsString::as_os_str)
        } else if let Some(name) = text.strip_prefix("--backend=") {
            OsStr::new(name)
        } else {
            rest.push(argument.clone());
            continue;
        };
        if chosen.replace(Backend::from_name(name)?).is_some() {
            return Err(Refusal("--backend is given twice".into()));
        }
    }
    Ok(Choice {
        backend: chosen.unwrap_or(Backend::Flex),
        rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(line: &str) -> Result<Choice, Refusal> {
        let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        choose(&arguments)
    }

    #[test]
    fn both_spellings_choose() {
        for line in ["--steps 3 --backend cuda", "--steps 3 --backend=cuda"] {
            let choice = chosen(line).unwrap();
            assert_eq!(choice.backend, Backend::Cuda);
            assert_eq!(choice.rest, ["--steps", "3"]);
        }
    }

    #[test]
    fn flex_is_the_default_and_needs_no_feature() {
        let choice = chosen("--steps 3").unwrap();
        assert_eq!(choice.backend, Backend::Flex);
        assert!(choice.backend.cargo_arguments().is_empty());
        assert_eq!(Backend::Vulkan.cargo_arguments(), ["--features", "vulkan"]);
    }

    #[test]
    fn what_follows_two_dashes_is_not_an_option() {
        let choice = chosen("-- --backend metal").unwrap();
        assert_eq!(choice.backend, Backend::Flex);
        assert_eq!(choice.rest, ["--", "--backend", "metal"]);
    }

    #[test]
    fn unknown_missing_and_repeated_names_are_refused() {
        for (line, reason) in [
            (
                "--backend metal",
                "`metal`; known: flex, ndarray, cuda, vulkan",
            ),
            ("--backend", "known: flex"),
            ("--backend=flex --backend cuda", "twice"),
        ] {
            let Refusal(text) = chosen(line).unwrap_err();
            assert!(text.contains(reason), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }
}
