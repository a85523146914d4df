//! `[data]`: where the rows come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The format.
    pub kind: DataKind,
    /// Folder or file, for `idx`, `cifar10` and `images`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// What `images` are cropped and resized to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ImageSize>,
    /// 1 (gray) or 3 (RGB), for `images`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Whether `images` are decoded into memory before the first step. If absent, they are if they take at
    /// most a quarter of the memory and at most 4 GiB; otherwise workers decode them when they are needed.
    /// The rows are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_memory: Option<bool>,
    /// Number of points of a toy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<usize>,
    /// Whether rows are mirrored at random.
    #[serde(default)]
    pub flip: bool,
    /// Threads that prepare batches.
    #[serde(default = "one_worker")]
    pub workers: usize,
}

/// `data.size`, in pixels
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a side or [height, width] in pixels")]
pub enum ImageSize {
    /// The side of a square.
    Side(usize),
    /// Height and width.
    Sides([usize; 2]),
}

impl ImageSize {
    /// Height and width.
    pub fn sides(self) -> [usize; 2] {
        match self {
            Self::Side(side) => [side, side],
            Self::Sides(sides) => sides,
        }
    }
}

/// `data.kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum DataKind {
    Digits,
    Idx,
    Cifar10,
    Images,
    SwissRoll,
    TwoMoons,
}

impl DataKind {
    /// The name that a file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Idx => "idx",
            Self::Cifar10 => "cifar10",
            Self::Images => "images",
            Self::SwissRoll => "swiss-roll",
            Self::TwoMoons => "two-moons",
        }
    }

    /// Whether its rows come from `data.path`.
    pub fn has_path(self) -> bool {
        matches!(self, Self::Idx | Self::Cifar10 | Self::Images)
    }

    /// Whether its rows are points, not images.
    pub fn is_points(self) -> bool {
        matches!(self, Self::SwissRoll | Self::TwoMoons)
    }
}

fn one_worker() -> usize {
    1
}
