//! What a network is told beside x_t and its time, and which of it a network takes.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// What a network is told beside x_t and its time; nothing, by default.
///
/// Each tensor has one row per row of x_t. [`ConditionSpec`] says which of them a network takes.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use ddpm_model::Condition;
///
/// let device = Device::flex();
/// let photo = Tensor::zeros([2, 3, 8, 8], &device);
/// let condition = Condition::classes(&[4, 9], &device).with_image(photo);
/// assert_eq!(condition.rows(0..1).image.unwrap().dims(), [1, 3, 8, 8]);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Condition {
    /// One class per row, `[B]`.
    pub class: Option<Tensor<1, Int>>,
    /// Channels beside those of x_t, `[B, C, H, W]`.
    pub image: Option<Tensor<4>>,
    /// Numbers, `[B, F]`.
    pub vector: Option<Tensor<2>>,
}

impl Condition {
    /// No condition.
    pub fn none() -> Self {
        Self::default()
    }

    /// The class of each row.
    ///
    /// # Panics
    ///
    /// If a class does not fit an `i64`.
    pub fn classes(classes: &[usize], device: &Device) -> Self {
        let class = |&class: &usize| i64::try_from(class).expect("a class fits an i64");
        let classes: Vec<i64> = classes.iter().map(class).collect();
        let count = classes.len();
        Self::none().with_class(Tensor::from_data(TensorData::new(classes, [count]), device))
    }

    /// With one class per row, `[B]`.
    #[must_use]
    pub fn with_class(self, class: Tensor<1, Int>) -> Self {
        Self {
            class: Some(class),
            ..self
        }
    }

    /// With channels beside those of x_t, `[B, C, H, W]`.
    #[must_use]
    pub fn with_image(self, image: Tensor<4>) -> Self {
        Self {
            image: Some(image),
            ..self
        }
    }

    /// With numbers for each row, `[B, F]`.
    #[must_use]
    pub fn with_vector(self, vector: Tensor<2>) -> Self {
        Self {
            vector: Some(vector),
            ..self
        }
    }

    /// The condition of these rows of the batch.
    ///
    /// # Panics
    ///
    /// If there are fewer rows.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let Self {
            class,
            image,
            vector,
        } = self.clone();
        Self {
            class: class.map(|class| class.slice_dim(0, rows.clone())),
            image: image.map(|image| image.slice_dim(0, rows.clone())),
            vector: vector.map(|vector| vector.slice_dim(0, rows)),
        }
    }
}

/// Which conditions a network takes, and their sizes.
///
/// A network needs every condition that it takes, and refuses the others. A network that can also
/// do without one has a value that stands for none, such as a null class.
///
/// ```
/// use burn::tensor::Device;
/// use ddpm_model::{Condition, ConditionSpec};
///
/// let takes = ConditionSpec::none().with_classes(10);
/// let condition = Condition::classes(&[4, 9], &Device::flex());
/// assert!(takes.check(&condition, 2).is_ok());
/// assert!(takes.check(&Condition::none(), 2).is_err());
/// assert!(ConditionSpec::none().check(&condition, 2).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionSpec {
    /// The number of classes, the null class included: a class is in `0..classes`.
    pub classes: Option<usize>,
    /// Channels of the image.
    pub image_channels: Option<usize>,
    /// Length of the vector.
    pub vector_len: Option<usize>,
}

impl ConditionSpec {
    /// A network that takes no condition.
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes a class in `0..classes`.
    #[must_use]
    pub fn with_classes(self, classes: usize) -> Self {
        Self {
            classes: Some(classes),
            ..self
        }
    }

    /// Takes an image of this many channels.
    #[must_use]
    pub fn with_image(self, channels: usize) -> Self {
        Self {
            image_channels: Some(channels),
            ..self
        }
    }

    /// Takes a vector of this length.
    #[must_use]
    pub fn with_vector(self, len: usize) -> Self {
        Self {
            vector_len: Some(len),
            ..self
        }
    }

    /// Checks once, before training or sampling, that a network that takes this can use every
    /// condition that `given` describes.
    ///
    /// # Errors
    ///
    /// If a condition is missing, is not taken, or has another size, or if there are more classes
    /// than the network has.
    pub fn admits(&self, given: &Self) -> Result<(), ConditionError> {
        for (kind, taken, given) in [
            ("class", self.classes, given.classes),
            ("image", self.image_channels, given.image_channels),
            ("vector", self.vector_len, given.vector_len),
        ] {
            match (taken, given) {
                (None, Some(_)) => return Err(ConditionError::NotTaken { kind }),
                (Some(_), None) => return Err(ConditionError::Missing { kind }),
                (Some(taken), Some(given)) if kind == "class" && given > taken => {
                    return Err(ConditionError::Classes { given, taken });
                }
                (Some(taken), Some(given)) if kind != "class" && given != taken => {
                    return Err(ConditionError::Size { kind, given, taken });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that a network that takes this can use `condition` for a batch of `rows`.
    ///
    /// Only shapes are compared. The classes themselves are not read, because that would wait for
    /// the device.
    ///
    /// # Errors
    ///
    /// As [`admits`](Self::admits), and if a condition has another number of rows.
    pub fn check(&self, condition: &Condition, rows: usize) -> Result<(), ConditionError> {
        let class = condition.class.as_ref().map(|class| class.dims()[0]);
        let image = condition.image.as_ref().map(Tensor::dims);
        let vector = condition.vector.as_ref().map(Tensor::dims);
        self.admits(&Self {
            // Any number of classes fits.
            classes: class.map(|_| 0),
            image_channels: image.map(|[_, channels, ..]| channels),
            vector_len: vector.map(|[_, len]| len),
        })?;
        let counts = [
            ("class", class),
            ("image", image.map(|[rows, ..]| rows)),
            ("vector", vector.map(|[rows, _]| rows)),
        ];
        for (kind, found) in counts {
            if let Some(found) = found.filter(|&found| found != rows) {
                return Err(ConditionError::Rows { kind, found, rows });
            }
        }
        Ok(())
    }

    /// As [`check`](Self::check), for [`Network::predict`](crate::Network::predict).
    ///
    /// # Panics
    ///
    /// With the error's message.
    pub fn assert(&self, condition: &Condition, rows: usize) {
        if let Err(error) = self.check(condition, rows) {
            panic!("{error}");
        }
    }
}

/// Why a network cannot use a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// A condition that the network has no input for.
    #[error("the network takes no {kind}, but one is given")]
    NotTaken {
        /// Which condition.
        kind: &'static str,
    },
    /// A condition that the network needs.
    #[error("no {kind} is given, but the network needs one")]
    Missing {
        /// Which condition.
        kind: &'static str,
    },
    /// More classes than the network has.
    #[error("there are {given} classes, the network takes {taken}")]
    Classes {
        /// The number of classes, the null class included.
        given: usize,
        /// What the network takes.
        taken: usize,
    },
    /// A condition of another batch.
    #[error("the {kind} has {found} rows, the batch {rows}")]
    Rows {
        /// Which condition.
        kind: &'static str,
        /// Its rows.
        found: usize,
        /// Rows of x_t.
        rows: usize,
    },
    /// An image of other channels, or a vector of another length.
    #[error("the {kind} has size {given}, the network takes {taken}")]
    Size {
        /// Which condition.
        kind: &'static str,
        /// Channels of the image, or length of the vector.
        given: usize,
        /// What the network takes.
        taken: usize,
    },
}
