//! JSON objects read key by key, so that an error can name the key and its value.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::DiffusersError;
use super::files::read_file;

/// The keys of an object that have not been taken yet.
pub(crate) struct Keys {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Keys {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, DiffusersError> {
        Self::parse(&read_file(path)?, path)
    }

    /// Reads a file's bytes; `path` is what errors call it.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, DiffusersError> {
        let map = serde_json::from_slice(bytes).map_err(|error| DiffusersError::Content {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let path = path.to_owned();
        Ok(Self { path, map })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A key's value, or what it is by default.
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        key: &str,
        default: T,
    ) -> Result<T, DiffusersError> {
        let Some(value) = self.map.remove(key) else {
            return Ok(default);
        };
        T::deserialize(&value).map_err(|error| self.bad(key, &value, &error.to_string()))
    }

    /// Takes a key whose value must be one of these if it is there.
    pub(crate) fn only(&mut self, key: &str, supported: &[Value]) -> Result<(), DiffusersError> {
        match self.map.remove(key) {
            Some(value) if !supported.contains(&value) => {
                let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
                let reason = format!("not supported; only {} is", supported.join(" or "));
                Err(self.bad(key, &value, &reason))
            }
            _ => Ok(()),
        }
    }

    /// An error about a key that has been taken.
    pub(crate) fn bad(&self, key: &str, value: &Value, reason: &str) -> DiffusersError {
        DiffusersError::Value {
            path: self.path.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// The end: whatever was not taken is unknown.
    pub(crate) fn finish(self) -> Result<(), DiffusersError> {
        if self.map.is_empty() {
            return Ok(());
        }
        Err(DiffusersError::Unknown {
            path: self.path,
            keys: self.map.into_iter().map(|(key, _)| key).collect(),
        })
    }
}
