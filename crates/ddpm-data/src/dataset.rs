//! The trait of data sets.

use crate::DataError;

/// Rows of equal shape, perhaps labelled.
///
/// Implement it for your own data; [`InMemory`](crate::InMemory) holds rows that are already in
/// memory. A row is identified by its number, so the order of a run is a function of its seed, and
/// workers can prepare rows in any order.
///
/// ```
/// use ddpm_data::{DataError, Dataset};
///
/// /// Points on the unit circle.
/// struct Circle(usize);
///
/// impl Dataset for Circle {
///     fn len(&self) -> usize {
///         self.0
///     }
///     fn shape(&self) -> &[usize] {
///         &[2]
///     }
///     fn write_row(&self, i: usize, row: &mut [f32]) -> Result<(), DataError> {
///         let angle = std::f32::consts::TAU * i as f32 / self.0 as f32;
///         row.copy_from_slice(&[angle.cos(), angle.sin()]);
///         Ok(())
///     }
///     fn fingerprint(&self) -> String {
///         format!("circle of {} points", self.0)
///     }
/// }
///
/// let mut row = [0.0; 2];
/// Circle(4).write_row(0, &mut row)?;
/// assert_eq!(row, [1.0, 0.0]);
/// # Ok::<(), DataError>(())
/// ```
pub trait Dataset: Send + Sync {
    /// Number of rows.
    fn len(&self) -> usize;

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of a row: `[channels, height, width]` for images, `[features]` for points.
    fn shape(&self) -> &[usize];

    /// Number of values in a row.
    fn row_len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Writes row `i`, below [`len`](Self::len), into `row`, which is [`row_len`](Self::row_len)
    /// long. Images are in [−1, 1]; other data has a standard deviation near 1.
    ///
    /// # Errors
    ///
    /// If the row cannot be read or decoded.
    fn write_row(&self, i: usize, row: &mut [f32]) -> Result<(), DataError>;

    /// Identifies the data: a resumed run must find the same text again.
    fn fingerprint(&self) -> String;

    /// Number of classes, if the rows are labelled.
    fn classes(&self) -> Option<usize> {
        None
    }

    /// Class of row `i`, below [`classes`](Self::classes).
    fn label(&self, _i: usize) -> Option<usize> {
        None
    }

    /// Names of the classes by number; empty if they have none.
    fn class_names(&self) -> &[String] {
        &[]
    }

    /// Number of rows of each class; empty if the rows are not labelled.
    fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes().unwrap_or(0)];
        for label in (0..self.len()).filter_map(|i| self.label(i)) {
            counts[label] += 1;
        }
        counts
    }

    /// The largest value of a source of whole numbers, for example 255 for images of 8 bits. A row
    /// holds 2·value/max − 1. Only such data has a likelihood in bits.
    fn max(&self) -> Option<u32> {
        None
    }

    /// Bytes of memory that the rows take.
    fn bytes(&self) -> usize {
        0
    }

    /// Notes for the user about how the rows were found, such as how many files were passed over;
    /// one line each.
    fn notes(&self) -> &[String] {
        &[]
    }
}
