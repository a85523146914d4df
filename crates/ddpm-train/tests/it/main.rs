//! ddpm-train's tests: data, and whole runs of the program.
#![allow(missing_docs)]

mod backends;
mod data;
mod run;
