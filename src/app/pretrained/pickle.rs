//! Pickles read as data: Python's serialization, protocols 0 to 5, of which nothing is ever executed.
//!
//! A pickle is a program for a small stack machine (`pickletools` of Python documents its instructions). The
//! machine here builds values and never calls anything: what Python would call stays a [`Value::Call`] with its
//! arguments. All values lie in one table and refer to each other by their place in it, so that an object that is
//! named twice is one object, and no nesting, however deep, costs stack.

use std::collections::HashMap;

/// What is wrong with a pickle.
pub type Result<T> = std::result::Result<T, String>;

/// The place of a value.
pub type Id = usize;

/// Longest name of a class, in bytes. A pickle of a few kilobytes could otherwise name a long text again and again.
const LONGEST_NAME: usize = 1024;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number of more than 64 bits: little-endian, two's complement.
    Long(Vec<u8>),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    /// A dictionary, ordered or not; attributes that it may have are left out.
    Dict(Vec<(Id, Id)>),
    /// A class or function, by name.
    Global {
        /// Its module.
        module: String,
        /// Its name there.
        name: String,
    },
    /// What Python would make by a call.
    Call(Call),
    /// An object outside of the pickle, by its key.
    Persistent(Id),
}

/// A call that was not made.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What would be called.
    pub callable: Id,
    /// Its arguments: a tuple.
    pub arguments: Id,
    /// What the result's attributes would be set from.
    pub state: Option<Id>,
    /// What would be stored in the result by key.
    pub entries: Vec<(Id, Id)>,
}

/// The values of a pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads the pickle at the start of `bytes`; how many bytes it has.
    ///
    /// # Errors
    /// If it is cut off or damaged.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize)> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pairs_left: bytes.len(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        let values = machine.values;
        Ok((Self { values, root }, machine.at))
    }

    /// The place of what was pickled.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value at a place.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// A tuple's parts.
    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(parts) => Some(parts),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A count.
    pub fn count(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Value::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// What is stored by key in a dictionary, or in an object that takes keys.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(entries) => Some(entries),
            Value::Call(call) if !call.entries.is_empty() => Some(&call.entries),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// How many pairs of lists may still be copied into dictionaries: a list that is named again and again is copied each time.
    pairs_left: usize,
}

impl<'a> Machine<'a> {
    /// Follows one instruction; false after the last.
    fn step(&mut self) -> Result<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(false),
            0x80 => {
                let protocol = self.take(1)?[0];
                if protocol > 5 {
                    return Err(format!(
                        "pickle protocol {protocol}, which is newer than those that are read (0 to 5)"
                    ));
                }
            }
            0x95 => drop(self.take(8)?), // the length of a frame
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'I' | b'L' | b'F' | b'S' | b'V' | b'P' | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => {
                self.number_or_line(code)?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.bytes_of(code)?,
            b't' | 0x85..=0x87 | b')' | b']' | b'l' | 0x8f | 0x91 | b'}' | b'd' => {
                self.container(code)?;
            }
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(code)?,
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.remember(code)?,
            b'c' | 0x93 | b'i' | b'o' | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(code)?,
            other => {
                return Err(format!(
                    "instruction {other:#04x} at byte {} is not one of pickles that stand alone",
                    self.at - 1
                ));
            }
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(format!("it is cut off after {} bytes", self.bytes.len()));
        };
        self.at += count;
        Ok(taken)
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(number))
    }

    fn length(&mut self, bytes: usize) -> Result<usize> {
        usize::try_from(self.unsigned(bytes)?).map_err(|error| error.to_string())
    }

    /// Up to the end of the line, which is left out.
    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(format!("it is cut off after {} bytes", self.bytes.len()));
        };
        self.at += length + 1;
        std::str::from_utf8(&rest[..length])
            .map(|line| line.trim_end_matches('\r'))
            .map_err(|error| format!("a line is no text: {error}"))
    }

    fn place(&mut self, value: Value) -> Id {
        self.values.push(value);
        self.values.len() - 1
    }

    fn push(&mut self, value: Value) {
        let id = self.place(value);
        self.stack.push(id);
    }

    fn top(&self) -> Result<Id> {
        let is_above = self.stack.len() > self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| is_above);
        top.copied().ok_or_else(|| "a value is missing".to_owned())
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Everything since the last mark, which goes.
    fn above_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    /// Numbers, and what older protocols write as a line of text.
    fn number_or_line(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            0x8a | 0x8b => {
                let length = self.length(if code == 0x8a { 1 } else { 4 })?;
                whole(self.take(length)?)
            }
            b'G' => Value::Float(f64::from_bits(self.unsigned(8)?.swap_bytes())),
            _ => {
                let line = self.line()?;
                let wrong = || format!("`{line}` is no number");
                match code {
                    b'I' if line == "00" || line == "01" => Value::Bool(line == "01"),
                    b'I' | b'L' => {
                        let digits = line.strip_suffix('L').unwrap_or(line);
                        Value::Int(digits.parse().map_err(|_| wrong())?)
                    }
                    b'F' => Value::Float(line.parse().map_err(|_| wrong())?),
                    b'S' => Value::Text(line.trim_matches(['\'', '"']).to_owned()),
                    b'V' => Value::Text(line.to_owned()),
                    _ => {
                        let key = self.place(Value::Text(line.to_owned()));
                        Value::Persistent(key)
                    }
                }
            }
        };
        self.push(value);
        Ok(())
    }

    /// Texts and bytes with their length in front.
    fn bytes_of(&mut self, code: u8) -> Result<()> {
        let length = match code {
            0x8c | b'U' | b'C' => 1,
            b'X' | b'T' | b'B' => 4,
            _ => 8,
        };
        let length = self.length(length)?;
        let bytes = self.take(length)?;
        let value = match code {
            b'X' | 0x8c | 0x8d => {
                let text = std::str::from_utf8(bytes);
                Value::Text(text.map_err(|error| error.to_string())?.to_owned())
            }
            b'T' | b'U' => match std::str::from_utf8(bytes) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => Value::Bytes(bytes.to_vec()),
            },
            _ => Value::Bytes(bytes.to_vec()),
        };
        self.push(value);
        Ok(())
    }

    fn container(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b't' => Value::Tuple(self.above_mark()?),
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let mut parts = Vec::with_capacity(count);
                for _ in 0..count {
                    parts.push(self.pop()?);
                }
                parts.reverse();
                Value::Tuple(parts)
            }
            b')' => Value::Tuple(Vec::new()),
            b']' | 0x8f => Value::List(Vec::new()),
            b'l' | 0x91 => Value::List(self.above_mark()?),
            b'}' => Value::Dict(Vec::new()),
            _ => Value::Dict(pairs(self.above_mark()?)?),
        };
        self.push(value);
        Ok(())
    }

    /// Adds to a list or dictionary that is there.
    fn fill(&mut self, code: u8) -> Result<()> {
        let more = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.above_mark()?,
        };
        let place = self.top()?;
        let by_key = matches!(code, b's' | b'u');
        match &mut self.values[place] {
            Value::List(list) if !by_key => list.extend(more),
            Value::Dict(entries) if by_key => entries.extend(pairs(more)?),
            Value::Call(call) if by_key => call.entries.extend(pairs(more)?),
            // An object that is like a list; nothing here asks what is in it.
            Value::Call(_) => {}
            _ => return Err("something is added to what is no list or dictionary".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'p' | b'g' => {
                let line = self.line()?;
                line.parse()
                    .map_err(|_| format!("`{line}` is no number of an object"))?
            }
            b'q' | b'h' => self.unsigned(1)?,
            b'r' | b'j' => self.unsigned(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(code, b'g' | b'h' | b'j') {
            let known = self.memo.get(&key);
            let known = known.ok_or_else(|| format!("object {key} is named before it is there"))?;
            self.stack.push(*known);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    /// Classes, and objects that Python would make of them.
    fn object(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b'c' => self.named_by_lines()?,
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match &self.values[id] {
                    Value::Text(text) if text.len() <= LONGEST_NAME => Ok(text.clone()),
                    Value::Text(text) => Err(format!(
                        "a class has a name of {} bytes, expected {LONGEST_NAME} at most",
                        text.len()
                    )),
                    _ => Err("a class has no name".to_owned()),
                };
                Value::Global {
                    module: text(module)?,
                    name: text(name)?,
                }
            }
            b'i' | b'o' => {
                let mut parts = self.above_mark()?;
                let callable = match code {
                    b'i' => {
                        let class = self.named_by_lines()?;
                        self.place(class)
                    }
                    _ if parts.is_empty() => return Err("a class is missing".to_owned()),
                    _ => parts.remove(0),
                };
                let arguments = self.place(Value::Tuple(parts));
                self.called(callable, arguments)?
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.called(callable, arguments)?
            }
            0x92 => {
                let (_, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.called(class, arguments)?
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                if let Value::Call(call) = &mut self.values[object] {
                    call.state = Some(state);
                }
                return Ok(());
            }
            _ => Value::Persistent(self.pop()?),
        };
        self.push(value);
        Ok(())
    }

    fn named_by_lines(&mut self) -> Result<Value> {
        Ok(Value::Global {
            module: self.line()?.to_owned(),
            name: self.line()?.to_owned(),
        })
    }

    /// A dictionary where a known class of them is called, else the call.
    fn called(&mut self, callable: Id, arguments: Id) -> Result<Value> {
        let class = match &self.values[callable] {
            Value::Global { module, name } => (module.as_str(), name.as_str()),
            _ => ("", ""),
        };
        let dictionaries = [
            ("collections", "OrderedDict"),
            ("collections", "defaultdict"),
            ("builtins", "dict"),
            ("__builtin__", "dict"),
        ];
        if dictionaries.contains(&class) {
            let pairs = self.pairs_in(arguments);
            let left = self.pairs_left.checked_sub(pairs.len());
            self.pairs_left = left.ok_or("a list is copied into dictionaries again and again")?;
            return Ok(Value::Dict(pairs));
        }
        Ok(Value::Call(Call {
            callable,
            arguments,
            state: None,
            entries: Vec::new(),
        }))
    }

    /// The pairs in a dictionary's arguments, as Python 2 gave them: one list of lists of two.
    fn pairs_in(&self, arguments: Id) -> Vec<(Id, Id)> {
        let parts = |id: Id| match &self.values[id] {
            Value::Tuple(parts) | Value::List(parts) => &parts[..],
            _ => &[],
        };
        let [list] = parts(arguments) else {
            return Vec::new();
        };
        let pair = |&id: &Id| match parts(id) {
            &[key, value] => Some((key, value)),
            _ => None,
        };
        parts(*list).iter().filter_map(pair).collect()
    }
}

fn pairs(values: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    if !values.len().is_multiple_of(2) {
        return Err("a key has no value".to_owned());
    }
    Ok(values
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

/// A whole number of little-endian bytes, two's complement.
fn whole(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Long(bytes.to_vec());
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut number = [if negative { 0xff } else { 0 }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pickle> {
        Pickle::read(bytes).map(|(pickle, _)| pickle)
    }

    /// `{'a': (1, -2, 3.5, None, True), 'b': [b'xy', 'z', 70000, -1 << 40]}`, written by Python's `pickle.dumps` with
    /// each protocol.
    #[test]
    fn every_protocol_gives_the_same_values() {
        let pickles: [&[u8]; 6] = [
            PROTOCOL_0, PROTOCOL_1, PROTOCOL_2, PROTOCOL_3, PROTOCOL_4, PROTOCOL_5,
        ];
        for (protocol, bytes) in pickles.into_iter().enumerate() {
            let (pickle, read) = Pickle::read(bytes).expect("a pickle");
            assert_eq!(read, bytes.len(), "protocol {protocol}");
            let entries = pickle.entries(pickle.root()).expect("a dictionary");
            let keys: Vec<&str> = entries.iter().filter_map(|e| pickle.text(e.0)).collect();
            assert_eq!(keys, ["a", "b"], "protocol {protocol}");
            let parts = pickle.tuple(entries[0].1).expect("a tuple");
            let parts: Vec<&Value> = parts.iter().map(|&id| pickle.get(id)).collect();
            let expected = [
                Value::Int(1),
                Value::Int(-2),
                Value::Float(3.5),
                Value::None,
                Value::Bool(true),
            ];
            assert_eq!(
                parts,
                expected.iter().collect::<Vec<_>>(),
                "protocol {protocol}"
            );
            let Value::List(list) = pickle.get(entries[1].1) else {
                panic!("protocol {protocol}: no list");
            };
            // Before protocol 3 bytes are a call that would encode a text.
            let bytes = matches!(pickle.get(list[0]), Value::Bytes(bytes) if bytes == b"xy");
            assert_eq!(bytes, protocol >= 3);
            assert_eq!(pickle.text(list[1]), Some("z"));
            assert_eq!(pickle.get(list[2]), &Value::Int(70_000));
            assert_eq!(pickle.get(list[3]), &Value::Int(-1 << 40));
        }
    }

    #[test]
    fn what_python_would_run_stays_data() {
        // os.system('true')
        let pickle = read(b"cos\nsystem\n(S'true'\ntR.").expect("a pickle");
        let Value::Call(call) = pickle.get(pickle.root()) else {
            panic!("no call");
        };
        assert_eq!(pickle.global(call.callable), Some(("os", "system")));
    }

    #[test]
    fn an_object_that_is_named_twice_is_one_object() {
        // a = []; (a, a) with 'x' added to the second.
        let pickle = read(b"]q\x00h\x00X\x01\x00\x00\x00xa\x86.").expect("a pickle");
        let parts = pickle.tuple(pickle.root()).expect("a tuple");
        assert_eq!(parts[0], parts[1]);
        assert!(matches!(pickle.get(parts[0]), Value::List(list) if list.len() == 1));
    }

    #[test]
    fn cut_off_and_damaged_pickles_are_errors() {
        for end in 0..PROTOCOL_4.len() {
            assert!(read(&PROTOCOL_4[..end]).is_err(), "{end}");
            // Any byte in any place: an error or other values, never a panic.
            for byte in 0..=255 {
                let mut damaged = PROTOCOL_4.to_vec();
                damaged[end] = byte;
                let _ = read(&damaged);
            }
        }
        for bytes in [&b"."[..], b"a.", b"(t", b"h\x00.", b"\x80\x06.", b"\x97."] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        // Nested a million deep: no stack is needed to read it, nor to let it go.
        let deep = [vec![b'N'], vec![0x85; 1_000_000], vec![b'.']].concat();
        assert!(read(&deep).is_ok());
    }

    const PROTOCOL_0: &[u8] = b"(dp0\nVa\np1\n(I1\nI-2\nF3.5\nNI01\ntp2\nsVb\np3\n(lp4\nc_codecs\nencode\np5\n(Vxy\np6\nVl\
        atin1\np7\ntp8\nRp9\naVz\np10\naI70000\naL-1099511627776L\nas.";
    const PROTOCOL_1: &[u8] = b"}q\x00(X\x01\x00\x00\x00aq\x01(K\x01J\xfe\xff\xff\xffG@\x0c\x00\x00\x00\x00\x00\x00NI01\nt\
        q\x02X\x01\x00\x00\x00bq\x03]q\x04(c_codecs\nencode\nq\x05(X\x02\x00\x00\x00xyq\x06X\x06\
        \x00\x00\x00latin1q\x07tq\x08Rq\x09X\x01\x00\x00\x00zq\nJp\x11\x01\x00L-1099511627776L\neu\
        .";
    const PROTOCOL_2: &[u8] =
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01(K\x01J\xfe\xff\xff\xffG@\x0c\x00\x00\x00\x00\x00\
        \x00N\x88tq\x02X\x01\x00\x00\x00bq\x03]q\x04(c_codecs\nencode\nq\x05X\x02\x00\x00\x00xyq\
        \x06X\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\x09X\x01\x00\x00\x00zq\nJp\x11\x01\x00\x8a\x06\
        \x00\x00\x00\x00\x00\xffeu.";
    const PROTOCOL_3: &[u8] =
        b"\x80\x03}q\x00(X\x01\x00\x00\x00aq\x01(K\x01J\xfe\xff\xff\xffG@\x0c\x00\x00\x00\x00\x00\
        \x00N\x88tq\x02X\x01\x00\x00\x00bq\x03]q\x04(C\x02xyq\x05X\x01\x00\x00\x00zq\x06Jp\x11\x01\
        \x00\x8a\x06\x00\x00\x00\x00\x00\xffeu.";
    const PROTOCOL_4: &[u8] = b"\x80\x04\x95<\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94(K\x01J\xfe\xff\xff\xffG@\x0c\
        \x00\x00\x00\x00\x00\x00N\x88t\x94\x8c\x01b\x94]\x94(C\x02xy\x94\x8c\x01z\x94Jp\x11\x01\
        \x00\x8a\x06\x00\x00\x00\x00\x00\xffeu.";
    const PROTOCOL_5: &[u8] = b"\x80\x05\x95<\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94(K\x01J\xfe\xff\xff\xffG@\x0c\
        \x00\x00\x00\x00\x00\x00N\x88t\x94\x8c\x01b\x94]\x94(C\x02xy\x94\x8c\x01z\x94Jp\x11\x01\
        \x00\x8a\x06\x00\x00\x00\x00\x00\xffeu.";
}
