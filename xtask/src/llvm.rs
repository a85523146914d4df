//! The LLVM bundle that Burn's CUDA feature links, and the message for users who cannot download it.
//!
//! The build script of `tracel-llvm-bundler`, a crate below `burn/cuda`, downloads the bundle from
//! GitHub once per user. Without a network the script panics, and its message does not help a user
//! who wants to train a model.

use std::{
    env, fs,
    path::{Path, PathBuf},
};
use xtask::root;

/// The start of cargo's report when the bundle could not be installed.
pub(crate) const FAILURE: &str = "failed to run custom build command for `tracel-llvm-bundler";

/// The build script recognises an installed bundle by this file.
const SENTINEL: &str = ".tracel-llvm-installed";

/// A version of the bundle and the folder for it.
pub(crate) struct Bundle {
    version: String,
    folder: Option<PathBuf>,
}

impl Bundle {
    /// The version that `Cargo.lock` pins, in this user's data folder.
    pub(crate) fn locate() -> Self {
        let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap_or_default();
        let version = locked_version(&lock, "tracel-llvm-bundler").unwrap_or("(unknown version)");
        let name = format!("tracel-llvm-{version}");
        Self {
            version: version.into(),
            folder: data_folder().map(|data| data.join("tracel").join(name)),
        }
    }

    /// A notice for a build that will download the bundle; `None` if it is installed. It must be
    /// printed before the build, because a download behind a firewall may block without an error.
    pub(crate) fn notice(&self) -> Option<String> {
        let installed = |folder: &PathBuf| folder.join(SENTINEL).exists();
        (!self.folder.as_ref().is_some_and(installed)).then(|| {
            format!(
                "the first CUDA build downloads LLVM {} from github.com",
                self.version
            )
        })
    }

    /// What is missing and how to get it.
    pub(crate) fn explanation(&self) -> String {
        let folder = self
            .folder
            .as_deref()
            .unwrap_or(Path::new("(no data folder)"));
        format!(
            "the CUDA backend needs LLVM {}, which could not be installed.\n\
             Burn's CUDA feature links it and downloads it once, from\n\
             https://github.com/tracel-ai/tracel-llvm/releases. Any one of these helps:\n\
             \u{20} - run this again with network access to github.com;\n\
             \u{20} - copy the folder from a machine where a CUDA build worked to\n\
             \u{20}   {}\n\
             \u{20}   (with its file {SENTINEL});\n\
             \u{20} - use --backend vulkan on the GPU, or --backend flex on the CPU.\n\
             Cargo's own report: cargo build --release -p ddpm-cli --features cuda",
            self.version,
            folder.display(),
        )
    }
}

/// The version of a package in the text of a `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

/// The user's data folder on this platform, chosen as the build script does.
fn data_folder() -> Option<PathBuf> {
    let path = |name| env::var_os(name).map(PathBuf::from);
    if cfg!(target_os = "windows") {
        path("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        path("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        path("XDG_DATA_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".local/share")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_version() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"2.3.0-4\"\n";
        assert_eq!(locked_version(lock, "b"), Some("2.3.0-4"));
        assert_eq!(locked_version(lock, "c"), None);
        assert_eq!(locked_version("name = \"b\"", "b"), None);
    }

    #[test]
    fn this_workspace_locks_a_bundle() {
        assert_ne!(Bundle::locate().version, "(unknown version)");
    }

    #[test]
    fn the_explanation_says_where_and_what_else() {
        let bundle = Bundle {
            version: "9.9".into(),
            folder: Some("/data/tracel/tracel-llvm-9.9".into()),
        };
        let text = bundle.explanation();
        for part in [
            "LLVM 9.9",
            "/data/tracel/tracel-llvm-9.9",
            "--backend vulkan",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(bundle.notice().is_some());
    }
}
