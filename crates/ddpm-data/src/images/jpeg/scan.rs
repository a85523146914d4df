//! The codes of a scan's blocks (ITU-T T.81, annexes F and G).

/// What is read of a file, or what is wrong with it.
pub(super) type Checked<T> = Result<T, String>;

/// Bits of the longest Huffman code.
pub(super) const LONGEST: u32 = 16;

/// The maximum number of zero bytes that count as padding.
const PADDING: usize = 16;

/// For each value of the next 16 bits: the length of the code at their start, 0 if there is none,
/// and its symbol.
pub(super) type Huffman = Vec<(u8, u8)>;

fn damaged() -> String {
    "its compressed data is damaged".to_owned()
}

/// The bits between two markers.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Its lowest `count` bits have been read but not yet taken.
    buffer: u64,
    count: u32,
    /// Restart markers seen.
    restarts: u8,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            buffer: 0,
            count: 0,
            restarts: 0,
        }
    }

    /// Reads until there are 16 bits, or up to a marker or the end of the file.
    fn fill(&mut self) {
        while self.count < LONGEST {
            let (byte, length) = match self.bytes.get(self.at..) {
                // A following zero marks 0xff as data.
                Some([0xff, 0, ..]) => (0xff, 2),
                Some([0xff, ..] | []) | None => return,
                Some([byte, ..]) => (*byte, 1),
            };
            self.at += length;
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    /// The next bits, at most 16, as a number.
    fn take(&mut self, count: u32) -> Checked<u32> {
        self.fill();
        let rest = self.count.checked_sub(count);
        self.count = rest.ok_or("its compressed data ends too early")?;
        let bits = (self.buffer >> self.count) & ((1 << count) - 1);
        // There are at most 16 of them.
        Ok(u32::try_from(bits).unwrap_or(u32::MAX))
    }

    /// The symbol of the next code.
    fn symbol(&mut self, table: Option<&[(u8, u8)]>) -> Checked<u8> {
        let table = table.ok_or("a Huffman table is missing")?;
        self.fill();
        // Missing bits are zeros here; `take` refuses a code that needs them.
        let next = (self.buffer << LONGEST >> self.count) & 0xffff;
        let (length, symbol) = table[next as usize];
        if length == 0 {
            return Err(damaged());
        }
        self.take(length.into())?;
        Ok(symbol)
    }

    /// The position of the marker that follows these bits.
    pub(super) fn end(&mut self) -> Checked<usize> {
        self.fill();
        // The rest of the last byte has no meaning. Some encoders add zeros up to a whole word.
        let unread = (1_u64 << (self.count / 8 * 8)) - 1;
        let rest = self.bytes[self.at..].iter().take(PADDING);
        self.at += rest.take_while(|&&byte| byte == 0).count();
        let is_marker = |rest: &[u8]| rest.is_empty() || rest[0] == 0xff && rest.get(1) != Some(&0);
        if self.buffer & unread != 0 || !is_marker(&self.bytes[self.at..]) {
            return Err("it has more compressed data than pixels".to_owned());
        }
        while self.bytes[self.at..].starts_with(&[0xff, 0xff]) {
            self.at += 1;
        }
        Ok(self.at)
    }

    /// Skips the restart marker that must be here.
    pub(super) fn restart(&mut self) -> Checked<()> {
        let at = self.end()?;
        let marker = 0xd0 + self.restarts % 8;
        if self.bytes.get(at..at + 2) != Some(&[0xff, marker]) {
            return Err(damaged());
        }
        *self = Self {
            at: at + 2,
            restarts: self.restarts.wrapping_add(1),
            ..Self::new(self.bytes, at)
        };
        Ok(())
    }
}

/// The part of its blocks that a scan contains.
pub(super) enum Pass {
    /// All coefficients.
    Whole,
    /// The first coefficient, or one more bit of it.
    First { refines: bool },
    /// Some of the others, or one more bit of them.
    Rest {
        from: usize,
        to: usize,
        refines: bool,
    },
}

impl Pass {
    /// From a scan header: the first and last coefficient, and the bits sent before and now.
    pub(super) fn new(progressive: bool, from: u8, to: u8, approximation: u8) -> Self {
        let refines = approximation >> 4 != 0;
        match from {
            _ if !progressive => Self::Whole,
            0 => Self::First { refines },
            _ => Self::Rest {
                from: from.min(63).into(),
                to: to.min(63).into(),
                refines,
            },
        }
    }

    /// Reads a block. `run` is the number of following blocks without new data; `known` has one bit
    /// for each coefficient of the block that is not zero.
    pub(super) fn block(
        &self,
        bits: &mut Bits,
        [dc, ac]: [Option<&[(u8, u8)]>; 2],
        run: &mut u32,
        known: &mut u64,
    ) -> Checked<()> {
        match *self {
            Self::Whole => {
                difference(bits, dc)?;
                coefficients(bits, ac, 1, 63, run, known)?;
                if *run > 0 { Err(damaged()) } else { Ok(()) }
            }
            Self::First { refines: false } => difference(bits, dc),
            Self::First { refines: true } => bits.take(1).map(|_| ()),
            Self::Rest { .. } if *run > 0 && !self.refines() => {
                *run -= 1;
                Ok(())
            }
            Self::Rest {
                from,
                to,
                refines: false,
            } => coefficients(bits, ac, from, to, run, known),
            Self::Rest { from, to, .. } => refine(bits, ac, from, to, run, known),
        }
    }

    fn refines(&self) -> bool {
        matches!(self, Self::First { refines } | Self::Rest { refines, .. } if *refines)
    }
}

/// Reads the first coefficient, as the difference from that of the previous block.
fn difference(bits: &mut Bits, table: Option<&[(u8, u8)]>) -> Checked<()> {
    let size = bits.symbol(table)?.min(16);
    bits.take(size.into()).map(|_| ())
}

/// The number of following blocks that the end code also ends.
fn ends(bits: &mut Bits, exponent: u8) -> Checked<u32> {
    Ok((1 << exponent) - 1 + bits.take(exponent.into())?)
}

/// Reads the coefficients `from..=to` of a block, sent for the first time.
fn coefficients(
    bits: &mut Bits,
    table: Option<&[(u8, u8)]>,
    from: usize,
    to: usize,
    run: &mut u32,
    known: &mut u64,
) -> Checked<()> {
    let mut k = from;
    while k <= to {
        let symbol = bits.symbol(table)?;
        let (zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 && zeros < 15 {
            *run = ends(bits, zeros)?;
            return Ok(());
        }
        k += usize::from(zeros);
        if k > to {
            return Err(damaged());
        }
        if size > 0 {
            bits.take(size.into())?;
            *known |= 1 << k;
        }
        k += 1;
    }
    Ok(())
}

/// Reads one more bit of the coefficients `from..=to` that are not zero, and those that become
/// nonzero.
fn refine(
    bits: &mut Bits,
    table: Option<&[(u8, u8)]>,
    from: usize,
    to: usize,
    run: &mut u32,
    known: &mut u64,
) -> Checked<()> {
    let mut k = from;
    // The number of blocks that end here, including this one.
    let mut ended = *run;
    while k <= to && ended == 0 {
        let symbol = bits.symbol(table)?;
        let (mut zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 && zeros < 15 {
            ended = ends(bits, zeros)? + 1;
            break;
        }
        if size > 0 {
            bits.take(1)?;
        }
        while k <= to {
            if *known >> k & 1 == 1 {
                bits.take(1)?;
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            k += 1;
        }
        if k > to {
            return Err(damaged());
        }
        if size > 0 {
            *known |= 1 << k;
        }
        k += 1;
    }
    if ended > 0 {
        let rest = (k..=to).filter(|k| *known >> k & 1 == 1).count();
        for _ in 0..rest {
            bits.take(1)?;
        }
        ended -= 1;
    }
    *run = ended;
    Ok(())
}
