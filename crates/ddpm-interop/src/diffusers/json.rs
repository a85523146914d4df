//! JSON objects read key by key, so that an error can name the key and its value.

use std::path::{Path, PathBuf};

use ddpm_model::weights::read_file;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::{DiffusersError, content};

/// The byte order marks of UTF-8 and of both UTF-16. JSON allows none.
const BYTE_ORDER_MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

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

    /// Parses a file's bytes; errors name `path`.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, DiffusersError> {
        if BYTE_ORDER_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
            let reason = "begins with a byte order mark; save it as UTF-8 without one";
            return Err(content(path, reason));
        }
        let text = str::from_utf8(bytes).map_err(|error| content(path, error))?;
        let map = serde_json::from_str(&strict(text)).map_err(|error| content(path, error))?;
        let path = path.to_owned();
        Ok(Self { path, map })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A key's value, which is not taken.
    pub(crate) fn peek(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Takes a key's value; `default` if it is absent.
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

    /// Takes a key whose value must be one of the names in `choices`; returns its meaning.
    pub(crate) fn choice<N: Copy + PartialEq, T: Copy>(
        &mut self,
        key: &str,
        default: N,
        choices: &[(N, T)],
    ) -> Result<T, DiffusersError>
    where
        Value: From<N>,
    {
        let value = self.map.remove(key).unwrap_or_else(|| default.into());
        let found = choices.iter().find(|(name, _)| Value::from(*name) == value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names = choices.iter().map(|(name, _)| Value::from(*name));
            self.not_one_of(key, &value, names)
        })
    }

    /// Takes a key whose value, if present, must be one of these.
    pub(crate) fn only(&mut self, key: &str, supported: &[Value]) -> Result<(), DiffusersError> {
        match self.map.remove(key) {
            Some(value) if !supported.contains(&value) => {
                Err(self.not_one_of(key, &value, supported.iter().cloned()))
            }
            _ => Ok(()),
        }
    }

    fn not_one_of(
        &self,
        key: &str,
        value: &Value,
        names: impl Iterator<Item = Value>,
    ) -> DiffusersError {
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let reason = format!("not supported; only {} is", names.join(" or "));
        self.bad(key, value, &reason)
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

    /// Takes those of `keys` that are left. Returns a note that describes them as `what`.
    pub(crate) fn ignore(&mut self, keys: &[&str], what: &str) -> Option<String> {
        let mut ignored = keys.to_vec();
        ignored.retain(|key| self.map.remove(*key).is_some());
        let (path, ignored) = (self.path.display(), ignored.join(", "));
        (!ignored.is_empty()).then(|| format!("{path}: ignores {what}: {ignored}"))
    }

    /// Refuses all keys that were not taken.
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

/// Converts Python's JSON to strict JSON: the numbers that only Python writes become strings.
fn strict(text: &str) -> String {
    let mut strict = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            strict.push_str(&json!(word).to_string());
            rest = &rest[word.len()..];
            continue;
        }
        let mut taken = c.len_utf8();
        if in_string && c == '\\' {
            // An escaped character does not end the string.
            taken += rest[taken..].chars().next().map_or(0, char::len_utf8);
        } else if c == '"' {
            in_string = !in_string;
        }
        strict.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    strict
}
