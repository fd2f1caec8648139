//! What a pickle calls: gone through without building anything, so that what is not data is refused by its name before
//! a reader that builds objects sees it.

use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;
use std::rc::Rc;

/// A value on the pickle's stack, as far as it matters which functions are called.
#[derive(Clone)]
enum Value {
    /// A function or class by its name.
    Global(Rc<str>),
    /// A string that may become part of such a name.
    Text(Rc<str>),
    /// Anything else.
    Other,
}

/// The calls of a file's pickles.
pub(super) struct Calls {
    objects: BTreeSet<String>,
    /// The values that may still be made.
    left: u64,
}

/// Values that any file may make.
const FEWEST: u64 = 1 << 16;
/// Values that no state dict needs: a tensor and its moments make about a hundred.
const MOST: u64 = 1 << 20;
/// Longer strings name nothing.
const NAME: u64 = 256;

/// What a pickle may call: the functions that make tensors, containers and numbers again. An entry that ends with `*` is the start
/// of several.
const DATA: [&str; 37] = [
    "_codecs.encode",
    "builtins.bool",
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.complex",
    "builtins.dict",
    "builtins.float",
    "builtins.frozenset",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.range",
    "builtins.set",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.deque",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy._core.multiarray.*",
    "numpy._core.numeric._frombuffer",
    "numpy.core.multiarray.*",
    "numpy.core.numeric._frombuffer",
    "numpy.dtype",
    "pathlib.*",
    "torch.Size",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_*",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
];

/// Of `__builtin__`, the name of Python 2 for `builtins`, the containers alone.
const BUILTINS: [&str; 13] = [
    "bool",
    "bytearray",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "set",
    "str",
    "tuple",
];

fn is_data(name: &str) -> bool {
    if let Some(name) = name.strip_prefix("__builtin__.") {
        return BUILTINS.contains(&name);
    }
    DATA.iter().any(|data| match data.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => *data == name,
    })
}

impl Calls {
    /// For a file of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        Self { objects: BTreeSet::new(), left: size.clamp(FEWEST, MOST) }
    }

    /// The classes whose objects were made, in order.
    pub(super) fn into_objects(self) -> Vec<String> {
        self.objects.into_iter().collect()
    }

    /// Goes through one pickle, to just after its end.
    ///
    /// # Errors
    /// A call that is not data, by its name; a pickle that is damaged or makes too many values.
    pub(super) fn read(&mut self, reader: &mut dyn BufRead) -> Result<(), String> {
        Pickle { calls: self, reader, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), memoized: 0 }.run()
    }
}

/// A pickle on the way.
struct Pickle<'a> {
    calls: &'a mut Calls,
    reader: &'a mut dyn BufRead,
    stack: Vec<Value>,
    marks: Vec<usize>,
    /// What was memoized, values of no interest aside.
    memo: HashMap<u32, Value>,
    memoized: u32,
}

fn damaged(what: &str) -> String {
    format!("its pickle is truncated or damaged ({what}); fetch or save it again")
}

impl Pickle<'_> {
    fn run(&mut self) -> Result<(), String> {
        loop {
            match self.byte()? {
                b'.' => return Ok(()),
                // Numbers, None and booleans: so many bytes, or a line.
                b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
                b'K' => self.fixed(1)?,
                b'M' => self.fixed(2)?,
                b'J' => self.fixed(4)?,
                b'G' => self.fixed(8)?,
                b'I' | b'L' | b'F' => {
                    self.line()?;
                    self.push(Value::Other)?;
                }
                // Bytes and strings, with their length before them.
                0x8a | b'C' => self.skip_counted(1)?,
                0x8b | b'B' => self.skip_counted(4)?,
                0x8e | 0x96 => self.skip_counted(8)?,
                b'U' | 0x8c => self.text(1)?,
                b'T' | b'X' => self.text(4)?,
                0x8d => self.text(8)?,
                b'S' | b'V' => {
                    let line = self.line()?;
                    self.push(Value::Text(line.trim_matches(['\'', '"']).into()))?;
                }
                // Containers.
                b'(' => {
                    self.count()?;
                    self.marks.push(self.stack.len());
                }
                b')' | b']' | b'}' | 0x8f => self.push(Value::Other)?,
                b't' | b'l' | b'd' | 0x91 => {
                    self.drop_to_mark()?;
                    self.push(Value::Other)?;
                }
                0x85 => self.replace(1)?,
                0x86 => self.replace(2)?,
                0x87 => self.replace(3)?,
                b'a' => self.pop(1)?,
                b's' => self.pop(2)?,
                b'e' | b'u' | 0x90 | b'1' => self.drop_to_mark()?,
                b'0' => match self.marks.last() == Some(&self.stack.len()) {
                    true => _ = self.marks.pop(),
                    false => self.pop(1)?,
                },
                b'2' => {
                    let top = self.stack.last().cloned().ok_or_else(|| damaged("nothing to repeat"))?;
                    self.push(top)?;
                }
                // The memo.
                b'p' => {
                    let index = self.line()?.parse().map_err(|_| damaged("a place that is no number"))?;
                    self.memoize(index);
                }
                b'q' => {
                    let index = self.byte()?;
                    self.memoize(index.into());
                }
                b'r' => {
                    let index = self.number(4)?;
                    self.memoize(index as u32);
                }
                0x94 => self.memoize(self.memoized),
                b'g' => {
                    let index = self.line()?.parse().map_err(|_| damaged("a place that is no number"))?;
                    self.recall(index)?;
                }
                b'h' => {
                    let index = self.byte()?;
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = self.number(4)?;
                    self.recall(index as u32)?;
                }
                // Names, calls, objects.
                b'c' => {
                    let name = format!("{}.{}", self.line()?, self.line()?);
                    self.push(Value::Global(name.into()))?;
                }
                0x93 => {
                    let (name, module) = (self.stack.pop(), self.stack.pop());
                    let (Some(Value::Text(name)), Some(Value::Text(module))) = (name, module) else {
                        return Err(
                            "its pickle puts a name together that cannot be read; save the state dict alone".to_owned()
                        );
                    };
                    self.push(Value::Global(format!("{module}.{name}").into()))?;
                }
                b'R' => {
                    self.pop(1)?;
                    self.call()?;
                }
                b'i' => {
                    let name = format!("{}.{}", self.line()?, self.line()?);
                    self.drop_to_mark()?;
                    self.push(Value::Global(name.into()))?;
                    self.call()?;
                }
                b'o' => {
                    let mark = self.marks.pop().ok_or_else(|| damaged("no mark"))?;
                    self.stack.truncate(mark + 1);
                    self.call()?;
                }
                0x81 => {
                    self.pop(1)?;
                    self.object()?;
                }
                0x92 => {
                    self.pop(2)?;
                    self.object()?;
                }
                b'b' => self.pop(1)?,
                // Storages.
                b'P' => {
                    self.line()?;
                    self.push(Value::Other)?;
                }
                b'Q' => self.replace(1)?,
                0x80 => _ = self.byte()?,
                0x95 => _ = self.number(8)?,
                0x82..=0x84 => {
                    return Err("its pickle calls what is registered by number alone, which is no data".to_owned());
                }
                other => return Err(damaged(&format!("the byte {other:#04x} is no operation that is known"))),
            }
        }
    }

    /// Takes a function from the stack and puts what it gives there.
    fn call(&mut self) -> Result<(), String> {
        match self.stack.pop() {
            Some(Value::Global(name)) if is_data(&name) => self.push(Value::Other),
            Some(Value::Global(name)) => Err(format!(
                "its pickle calls {name}, which is no data; nothing of it was executed. If you trust its author, save its state \
                 dict alone where it came from: torch.save(model.state_dict(), …)"
            )),
            _ => {
                Err("its pickle calls what another call gave, which is no data; nothing of it was executed".to_owned())
            }
        }
    }

    /// Takes a class from the stack and puts an object of it there. Nothing runs: its state is data.
    fn object(&mut self) -> Result<(), String> {
        if let Some(Value::Global(name)) = self.stack.pop()
            && !is_data(&name)
        {
            self.calls.objects.insert(name.to_string());
        }
        self.push(Value::Other)
    }

    fn memoize(&mut self, index: u32) {
        self.memoized = self.memoized.wrapping_add(1);
        match self.stack.last() {
            None | Some(Value::Other) => _ = self.memo.remove(&index),
            Some(value) => _ = self.memo.insert(index, value.clone()),
        }
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let value = self.memo.get(&index).cloned().unwrap_or(Value::Other);
        self.push(value)
    }

    fn count(&mut self) -> Result<(), String> {
        self.calls.left = self.calls.left.checked_sub(1).ok_or_else(|| {
            "its pickle makes more values than any state dict has; save the state dict alone: \
             torch.save(model.state_dict(), …)"
                .to_owned()
        })?;
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self, count: usize) -> Result<(), String> {
        let left = self.stack.len().checked_sub(count).ok_or_else(|| damaged("too little on its stack"))?;
        self.stack.truncate(left);
        Ok(())
    }

    fn replace(&mut self, count: usize) -> Result<(), String> {
        self.pop(count)?;
        self.push(Value::Other)
    }

    fn drop_to_mark(&mut self) -> Result<(), String> {
        let mark = self.marks.pop().ok_or_else(|| damaged("no mark"))?;
        self.stack.truncate(mark);
        Ok(())
    }

    fn fixed(&mut self, bytes: u64) -> Result<(), String> {
        self.skip(bytes)?;
        self.push(Value::Other)
    }

    fn skip_counted(&mut self, width: usize) -> Result<(), String> {
        let count = self.number(width)?;
        self.fixed(count)
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let count = self.number(width)?;
        if count > NAME {
            return self.fixed(count);
        }
        let mut bytes = vec![0; count as usize];
        self.reader.read_exact(&mut bytes).map_err(|_| damaged("it ends in a string"))?;
        self.push(Value::Text(String::from_utf8_lossy(&bytes).into()))
    }

    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(|_| damaged("it ends too early"))?;
        Ok(byte[0])
    }

    /// A little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes[..width]).map_err(|_| damaged("it ends too early"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A line without its end; no name or number is as long as [`NAME`] allows a few times over.
    fn line(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned()),
                byte if (bytes.len() as u64) < 64 * NAME => bytes.push(byte),
                _ => return Err(damaged("a line without an end")),
            }
        }
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), String> {
        while bytes > 0 {
            let there = self.reader.fill_buf().map_err(|error| damaged(&error.to_string()))?.len();
            if there == 0 {
                return Err(damaged("it ends too early"));
            }
            let step = (there as u64).min(bytes);
            self.reader.consume(step as usize);
            bytes -= step;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pickle: &[u8]) -> Result<Vec<String>, String> {
        let mut calls = Calls::new(pickle.len() as u64);
        calls.read(&mut &pickle[..])?;
        Ok(calls.into_objects())
    }

    #[test]
    fn calls_that_are_no_data_are_named_in_every_way_to_write_them() {
        let pickles: [&[u8]; 7] = [
            b"cos\nsystem\n(S'true'\ntR.",
            b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00true\x85R.",
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x04true\x85R.",
            // The name comes from the memo.
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940\x8c\x01x0h\x01\x93)R.",
            b"(S'true'\nios\nsystem\n.",
            b"(cos\nsystem\nS'true'\no.",
            // What it gives is dropped.
            b"\x80\x02}cos\nsystem\n)R0.",
        ];
        for pickle in pickles {
            let error = check(pickle).unwrap_err();
            assert!(error.contains("os.system") && error.contains("nothing of it was executed"), "{error}");
        }
        let chained = check(b"cbuiltins\nset\n)R)R.").unwrap_err();
        assert!(chained.contains("what another call gave"), "{chained}");
        for name in ["builtins\neval", "__builtin__\neval", "builtins\ngetattr", "torch.storage\n_load_from_bytes"] {
            let error = check(format!("c{name}\n)R.").as_bytes()).unwrap_err();
            assert!(error.contains(&name.replace('\n', ".")), "{error}");
        }
    }

    #[test]
    fn data_passes_and_objects_are_named() {
        assert_eq!(check(b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01u."), Ok(vec![]));
        assert_eq!(check(b"ccollections\nOrderedDict\n)R."), Ok(vec![]));
        assert_eq!(check(b"\x80\x02cargparse\nNamespace\n)\x81}b."), Ok(vec!["argparse.Namespace".to_owned()]));
    }

    #[test]
    fn damage_and_floods_are_sentences() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aJ\x01\x00\x00\x00u.";
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).unwrap_err().contains("truncated"), "cut at {length}");
        }
        assert!(check(b"X\xff\xff\xff\xffabc").unwrap_err().contains("truncated"));
        assert!(check(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc").unwrap_err().contains("truncated"));
        assert!(check(b"\x82\x01.").unwrap_err().contains("number"));
        assert!(check(b"R.").unwrap_err().contains("damaged"));
        let mut calls = Calls::new(1 << 40);
        let flood = vec![b'N'; MOST as usize + 1];
        assert!(calls.read(&mut &flood[..]).unwrap_err().contains("more values"));
    }
}
