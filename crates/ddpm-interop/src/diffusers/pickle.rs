//! PyTorch's `.bin`: a zip archive of a pickle and the bytes of its tensors.
//!
//! A pickle is a program for a stack machine that can call anything in Python. A state dict needs
//! four functions, which build dictionaries and tensors. They are implemented here, no Python
//! function is called, and any other function is refused by name. Values are stored in one list and
//! refer to each other by position, so sharing and nesting cannot cost more than the length of the
//! file.

use std::collections::BTreeMap;
use std::ops::Range;

use ddpm_model::weights::{Dtype, View};

use super::zip;

/// The tensors of a state dict, in its order.
///
/// # Errors
///
/// If the archive is damaged, or holds anything but a dictionary of f32, f16 or bf16 tensors.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(String, View)>, String> {
    let entries = zip::entries(bytes)?;
    let mut pickles = entries.iter().filter_map(|(name, range)| {
        let folder = name.strip_suffix("data.pkl")?;
        (folder.ends_with('/')).then_some((folder, range.clone()))
    });
    let (Some((folder, pickle)), None) = (pickles.next(), pickles.next()) else {
        return Err("the archive does not hold one data.pkl".to_owned());
    };
    let order = entries.get(format!("{folder}byteorder").as_str());
    if order.is_some_and(|order| &bytes[order.clone()] != b"little") {
        return Err("the archive is not little-endian".to_owned());
    }
    let storages = entries.iter().filter_map(|(name, range)| {
        let key = name.strip_prefix(folder)?.strip_prefix("data/")?;
        Some((key, range.clone()))
    });
    let machine = Machine {
        input: &bytes[pickle],
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        storages: storages.collect(),
    };
    machine.run()
}

/// A function a state dict may call.
#[derive(Clone, Copy)]
enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Function {
    fn named(module: &str, name: &str) -> Result<Self, String> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(Dtype::F32),
            ("torch", "HalfStorage") => Self::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Dtype::Bf16),
            _ => {
                return Err(format!(
                    "the pickle asks for {module}.{name}; weights are dictionaries of f32, f16 or \
                     bf16 tensors"
                ));
            }
        })
    }
}

/// A value. It refers to its parts by their positions in the machine's list.
enum Value<'a> {
    Nothing,
    Int(usize),
    Text(&'a str),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Function(Function),
    Storage(Dtype, Range<usize>),
    Tensor(View),
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, usize>,
    storages: BTreeMap<&'a str, Range<usize>>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Vec<(String, View)>, String> {
        loop {
            let at = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.tensors();
            }
            self.step(opcode)
                .map_err(|reason| format!("the pickle, at byte {at}: {reason}"))?;
        }
    }

    /// The dictionary of tensors that is on the stack at the end.
    fn tensors(mut self) -> Result<Vec<(String, View)>, String> {
        let top = self.pop()?;
        let Value::Dict(items) = &self.values[top] else {
            return Err("the pickle is not a dictionary".to_owned());
        };
        let items =
            items.iter().map(
                |&(key, value)| match (&self.values[key], &self.values[value]) {
                    (Value::Text(name), Value::Tensor(view)) => {
                        Ok(((*name).to_owned(), view.clone()))
                    }
                    (Value::Text(name), _) => Err(format!("{name} is not a tensor")),
                    _ => Err("a name is not text".to_owned()),
                },
            );
        items.collect()
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // PROTO
            0x80 => {
                self.byte()?;
            }
            b'(' => self.marks.push(self.stack.len()),
            // NONE, NEWTRUE, NEWFALSE
            b'N' | 0x88 | 0x89 => self.push(Value::Nothing),
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => self.int(4)?,
            // LONG1
            0x8a => {
                let length = self.byte()?;
                self.int(length.into())?;
            }
            b'X' => {
                let length = self.number(4)?;
                let text = self.take(length)?;
                let text = std::str::from_utf8(text).map_err(|_| "text is not UTF-8")?;
                self.push(Value::Text(text));
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items));
            }
            // TUPLE1, TUPLE2, TUPLE3
            0x85..=0x87 => {
                let length = usize::from(opcode - 0x84);
                let first = self.stack.len().checked_sub(length).ok_or(EMPTY)?;
                let items = self.stack.split_off(first);
                self.push(Value::Tuple(items));
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.top_dict()?.push((key, value));
            }
            b'u' => {
                let items = self.marked()?;
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err("a key without a value".to_owned());
                }
                let pairs = pairs.iter().map(|&[key, value]| (key, value));
                self.top_dict()?.extend(pairs);
            }
            // BUILD: attributes of the dictionary, such as `_metadata`, do not contain weights.
            b'b' => {
                self.pop()?;
                self.top_dict()?;
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let function = Function::named(module, name)?;
                self.push(Value::Function(function));
            }
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            _ => return Err(format!("opcode {opcode:#04x}, which no state dict uses")),
        }
        Ok(())
    }

    /// BINPERSID: ("storage", type, key, device, length) names an entry of the archive.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let [_, kind, key, ..] = self.tuple(id)? else {
            return Err("a storage without a key".to_owned());
        };
        let (Value::Function(Function::Storage(dtype)), Value::Text(key)) =
            (&self.values[*kind], &self.values[*key])
        else {
            return Err("a storage without a type or a key".to_owned());
        };
        let range = self.storages.get(key);
        let range = range.ok_or_else(|| format!("the archive has no data/{key}"))?;
        let storage = Value::Storage(*dtype, range.clone());
        self.push(storage);
        Ok(())
    }

    /// REDUCE: a call, with its arguments in a tuple.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.tuple(arguments)?;
        let Value::Function(function) = self.values[function] else {
            return Err("the called value is not a function".to_owned());
        };
        let result = match (function, arguments) {
            (Function::OrderedDict, []) => Value::Dict(Vec::new()),
            (Function::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                self.tensor(storage, offset, shape, strides)?
            }
            (Function::RebuildParameter, &[tensor, ..]) => {
                self.stack.push(tensor);
                return Ok(());
            }
            _ => return Err("a call with the wrong arguments".to_owned()),
        };
        self.push(result);
        Ok(())
    }

    fn tensor(
        &self,
        storage: usize,
        offset: usize,
        shape: usize,
        strides: usize,
    ) -> Result<Value<'a>, String> {
        let Value::Storage(dtype, range) = &self.values[storage] else {
            return Err("a tensor without a storage".to_owned());
        };
        let sizes = |tuple| -> Result<Vec<usize>, String> {
            let items = self.tuple(tuple)?.iter();
            items.map(|&item| self.size(item)).collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        let view = View::new(*dtype, range.clone(), self.size(offset)?, shape, strides);
        Ok(Value::Tensor(view.ok_or("a tensor outside its storage")?))
    }

    fn size(&self, value: usize) -> Result<usize, String> {
        match self.values[value] {
            Value::Int(size) => Ok(size),
            _ => Err("a size is not a number".to_owned()),
        }
    }

    fn tuple(&self, value: usize) -> Result<&[usize], String> {
        match &self.values[value] {
            Value::Tuple(items) => Ok(items),
            _ => Err("expected a tuple".to_owned()),
        }
    }

    fn top_dict(&mut self) -> Result<&mut Vec<(usize, usize)>, String> {
        let top = *self.stack.last().ok_or(EMPTY)?;
        match &mut self.values[top] {
            Value::Dict(items) => Ok(items),
            _ => Err("expected a dictionary".to_owned()),
        }
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<usize, String> {
        Ok(self.stack.pop().ok_or(EMPTY)?)
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Result<Vec<usize>, String> {
        let mark = self.marks.pop().ok_or("no mark")?;
        if mark > self.stack.len() {
            return Err(EMPTY.to_owned());
        }
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, width: usize) -> Result<(), String> {
        let key = self.number(width)?;
        let top = *self.stack.last().ok_or(EMPTY)?;
        self.memo.insert(memo_key(key)?, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), String> {
        let key = self.number(width)?;
        let value = self.memo.get(&memo_key(key)?);
        let value = *value.ok_or("a value that was not remembered is recalled")?;
        self.stack.push(value);
        Ok(())
    }

    /// A little-endian number. It must not be negative, because all numbers are sizes.
    fn int(&mut self, width: usize) -> Result<(), String> {
        let value = self.number(width)?;
        self.push(Value::Int(value));
        Ok(())
    }

    fn number(&mut self, width: usize) -> Result<usize, String> {
        let bytes = self.take(width)?;
        let mut word = [0; 8];
        let fits = width <= word.len() && !(width >= 4 && bytes[width - 1] > 0x7f);
        if !fits {
            return Err("a number that is negative, or larger than any size".to_owned());
        }
        word[..width].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(word)).map_err(|e| e.to_string())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(SHORT)?;
        let line = self.take(length)?;
        self.byte()?;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".to_owned())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).ok_or(SHORT)?;
        let bytes = self.input.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(bytes)
    }
}

const EMPTY: &str = "the stack is empty";
const SHORT: &str = "the pickle ends too early";

fn memo_key(key: usize) -> Result<u32, String> {
    u32::try_from(key).map_err(|e| e.to_string())
}
