//! The codes of a scan's blocks (ITU-T T.81, annexes F and G).

use super::Checked;

/// Bits of the longest Huffman code.
pub(super) const LONGEST: u32 = 16;

/// Bytes of zeros that are taken for padding.
const PADDING: usize = 16;

/// For each value of the next 16 bits: the length of the code that they begin with, 0 if there is none,
/// and its symbol.
pub(super) type Huffman = Vec<(u8, u8)>;

fn damaged() -> String {
    "its compressed data is damaged".to_owned()
}

/// The bits between two markers.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The bits that are read and not yet taken are its lowest `count`.
    buffer: u64,
    count: u32,
    /// Restart markers met.
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

    /// Reads on until 16 bits are there, or a marker or the end of the file comes.
    fn fill(&mut self) {
        while self.count < LONGEST {
            let (byte, length) = match self.bytes.get(self.at..) {
                // A zero says that 0xff is data.
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
        // Zeros stand in for bits that are not there; `take` refuses a code that needs them.
        let next = (self.buffer << LONGEST >> self.count) & 0xffff;
        let (length, symbol) = table[next as usize];
        if length == 0 {
            return Err(damaged());
        }
        self.take(length.into())?;
        Ok(symbol)
    }

    /// Where the marker is that follows these bits.
    pub(super) fn end(&mut self) -> Checked<usize> {
        self.fill();
        // The rest of the last byte means nothing. Some encoders add zeros up to a whole word.
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

    /// Goes past the restart marker that must come here.
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

/// What a scan says of its blocks.
pub(super) enum Pass {
    /// All coefficients.
    Whole,
    /// The first one, or a bit more of it.
    First { refines: bool },
    /// Some of the others, or a bit more of them.
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

    /// Walks a block. `run` counts the blocks ahead in which nothing new comes; `known` has a bit for each
    /// coefficient of the block that is not zero.
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

/// The first coefficient, as the difference from the block before.
fn difference(bits: &mut Bits, table: Option<&[(u8, u8)]>) -> Checked<()> {
    let size = bits.symbol(table)?.min(16);
    bits.take(size.into()).map(|_| ())
}

/// The blocks after this one that end with it, from the code of the end.
fn ends(bits: &mut Bits, exponent: u8) -> Checked<u32> {
    Ok((1 << exponent) - 1 + bits.take(exponent.into())?)
}

/// The coefficients `from..=to` of a block, sent for the first time.
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

/// One more bit of the coefficients `from..=to` that are not zero, and those that become so.
fn refine(
    bits: &mut Bits,
    table: Option<&[(u8, u8)]>,
    from: usize,
    to: usize,
    run: &mut u32,
    known: &mut u64,
) -> Checked<()> {
    let mut k = from;
    // The blocks that end here, this one among them.
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
