//! How a program refuses a request, and its exit codes.

use std::{error::Error, ffi::OsString, fmt, process::ExitCode};

/// A request that cannot be carried out as asked. Its text is one sentence that gives the reason;
/// the exit code is 2.
#[derive(Debug)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refusal {}

/// Prints the error, if there is one, and returns the program's exit code: 2 for a [`Refusal`] or
/// for arguments that cannot be read, 1 for other errors.
pub fn report(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) if error.is::<Refusal>() || error.is::<lexopt::Error>() => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            // The alternate form prints the chain of causes.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Checks that a command that takes no arguments was given none.
///
/// # Errors
/// There is an argument.
pub fn no_arguments(arguments: &[OsString]) -> Result<(), lexopt::Error> {
    match lexopt::Parser::from_args(arguments).next()? {
        Some(argument) => Err(argument.unexpected()),
        None => Ok(()),
    }
}
