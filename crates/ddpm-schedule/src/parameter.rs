//! The error of a parameter that is out of range.

use thiserror::Error;

/// A parameter that is out of range.
///
/// ```
/// use ddpm_schedule::Process;
///
/// let error = Process::edm(0.002, 0.001).unwrap_err();
/// assert_eq!(error.to_string(), "sigma_max = 0.001 is outside (sigma_min, ∞)");
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[error("{name} = {value} is outside {range}")]
pub struct ParameterError {
    /// The parameter's name in the constructor or field.
    pub name: &'static str,
    /// The value refused.
    pub value: f64,
    /// The values that are allowed.
    pub range: &'static str,
}

/// `value` if `holds`, and otherwise an error that names the `range`.
pub(crate) fn check(
    name: &'static str,
    value: f64,
    range: &'static str,
    holds: bool,
) -> Result<f64, ParameterError> {
    let error = ParameterError { name, value, range };
    holds.then_some(value).ok_or(error)
}

/// `value`, if it is above 0 and finite.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, ParameterError> {
    check(name, value, "(0, ∞)", value > 0.0 && value.is_finite())
}
