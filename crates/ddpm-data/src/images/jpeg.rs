//! Checks that a JPEG is complete.
//!
//! Decoders fill in missing parts of a JPEG, because a viewer prefers a partly gray picture to
//! none. Such pictures are useless as training data. This check walks over the compressed data
//! (ITU-T T.81) without decoding pixels. It requires that each scan has exactly the codes of its
//! blocks and that the file has its end marker.

mod scan;

use scan::{Bits, Checked, Huffman, LONGEST, Pass};

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;
const DRI: u8 = 0xdd;

/// Checks a JPEG from its first marker to its last. Data after the last marker is ignored.
///
/// Kinds that the decoder does not support, such as arithmetic coding, pass this check: the decoder
/// refuses them.
pub(super) fn check(bytes: &[u8]) -> Checked<()> {
    let mut file = File {
        bytes,
        at: 0,
        huffman: Default::default(),
        frame: None,
        restart_interval: 0,
    };
    let mut scans = 0;
    loop {
        match file.marker()? {
            // These have no content.
            0x01 | SOI | 0xd0..=0xd7 => {}
            EOI => return file.complete(),
            SOS => {
                scans += 1;
                let segment = file.segment()?;
                file.scan(segment)
                    .map_err(|e| format!("scan {scans}: {e}"))?;
            }
            DHT => {
                let segment = file.segment()?;
                file.tables(segment)?;
            }
            DRI => {
                let segment = file.segment()?;
                file.restart_interval = word(segment, 0)?;
            }
            kind @ 0xc0..=0xc2 => {
                let segment = file.segment()?;
                if file.frame.is_some() {
                    return Err("it has two frame headers".to_owned());
                }
                file.frame = Some(Frame::new(segment, kind == 0xc2)?);
            }
            // Another kind of frame.
            0xc3 | 0xc5..=0xcf => return Ok(()),
            _ => {
                file.segment()?;
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Checked<usize> {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(usize::from(high) << 8 | usize::from(low)),
        _ => Err("a segment is too short".to_owned()),
    }
}

fn byte(bytes: &[u8], at: usize) -> Checked<u8> {
    let byte = bytes.get(at).copied();
    byte.ok_or_else(|| "a segment is too short".to_owned())
}

/// A color component.
struct Component {
    id: u8,
    /// Sampling factors, across and down.
    sampling: [usize; 2],
    /// Blocks across, including those that fill up the last unit of an interleaved scan.
    stride: usize,
    /// For each block, which of its 64 coefficients are not zero; only for progressive frames,
    /// whose later scans depend on it.
    known: Vec<u64>,
    /// Whether a scan contained it.
    found: bool,
}

struct Frame {
    progressive: bool,
    height: usize,
    width: usize,
    components: Vec<Component>,
}

impl Frame {
    fn new(segment: &[u8], progressive: bool) -> Checked<Self> {
        let (height, width) = (word(segment, 1)?, word(segment, 3)?);
        if height == 0 || width == 0 {
            return Err(format!("it has {width}×{height} pixels"));
        }
        let mut frame = Self {
            progressive,
            height,
            width,
            components: Vec::new(),
        };
        let count = usize::from(byte(segment, 5)?);
        if !(1..=4).contains(&count) {
            return Err(format!("it has {count} color components"));
        }
        for i in 0..count {
            let factors = byte(segment, 7 + 3 * i)?;
            let sampling = [factors >> 4, factors & 15].map(usize::from);
            if sampling.iter().any(|factor| !(1..=4).contains(factor)) {
                return Err(format!("component {i} has sampling factors {sampling:?}"));
            }
            frame.components.push(Component {
                id: byte(segment, 6 + 3 * i)?,
                sampling,
                stride: 0,
                known: Vec::new(),
                found: false,
            });
        }
        let [across, down] = frame.units();
        for component in &mut frame.components {
            component.stride = across * component.sampling[0];
            if progressive {
                component.known = vec![0; component.stride * down * component.sampling[1]];
            }
        }
        Ok(frame)
    }

    /// Largest sampling factors, across and down.
    fn largest(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let factors = self.components.iter().map(|c| c.sampling[axis]);
            factors.max().unwrap_or(1)
        })
    }

    /// Units of an interleaved scan, across and down.
    fn units(&self) -> [usize; 2] {
        let [across, down] = self.largest();
        [
            self.width.div_ceil(8 * across),
            self.height.div_ceil(8 * down),
        ]
    }

    /// Blocks of the only component of a scan, across and down.
    fn blocks(&self, component: &Component) -> [usize; 2] {
        let [across, down] = self.largest();
        let samples = |pixels: usize, own: usize, most: usize| (pixels * own).div_ceil(most);
        [
            samples(self.width, component.sampling[0], across).div_ceil(8),
            samples(self.height, component.sampling[1], down).div_ceil(8),
        ]
    }
}

struct File<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Huffman tables by class (DC, AC) and number.
    huffman: [[Option<Huffman>; 4]; 2],
    frame: Option<Frame>,
    /// Units between restart markers; 0 for none.
    restart_interval: usize,
}

impl<'a> File<'a> {
    /// Reads the marker that must be at this position.
    fn marker(&mut self) -> Checked<u8> {
        let rest = &self.bytes[self.at..];
        let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
        let Some(&kind) = rest.get(fill) else {
            return Err("it ends before its end marker".to_owned());
        };
        if fill == 0 || kind == 0 {
            return Err(format!("no marker where one must be, at byte {}", self.at));
        }
        self.at += fill + 1;
        Ok(kind)
    }

    /// The content of the segment whose marker was read.
    fn segment(&mut self) -> Checked<&'a [u8]> {
        let cut = || "it ends in the middle of a segment".to_owned();
        let length = word(self.bytes, self.at).map_err(|_| cut())?.max(2);
        let segment = self.bytes.get(self.at + 2..self.at + length);
        self.at += length;
        segment.ok_or_else(cut)
    }

    /// Checks that all components have had a scan.
    fn complete(&self) -> Checked<()> {
        let components = self.frame.iter().flat_map(|frame| &frame.components);
        let found = components.map(|component| component.found);
        match found.reduce(|a, b| a && b) {
            Some(true) => Ok(()),
            _ => Err("it has no data for a color component".to_owned()),
        }
    }

    /// Stores the Huffman tables of a segment.
    fn tables(&mut self, mut segment: &[u8]) -> Checked<()> {
        while let [which, rest @ ..] = segment {
            let bad = || format!("Huffman table {which:#04x} is not valid");
            let (counts, rest) = rest.split_at_checked(16).ok_or_else(bad)?;
            let total: usize = counts.iter().map(|&n| usize::from(n)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or_else(bad)?;
            let mut table = Huffman::with_capacity(1 << LONGEST);
            let mut symbols = symbols.iter();
            for (length, &count) in (1_u8..).zip(counts) {
                for &symbol in symbols.by_ref().take(count.into()) {
                    let codes = 1 << (LONGEST - u32::from(length));
                    table.extend(std::iter::repeat_n((length, symbol), codes));
                }
            }
            if table.len() > 1 << LONGEST {
                return Err(bad());
            }
            table.resize(1 << LONGEST, (0, 0));
            let class = self.huffman.get_mut(usize::from(which >> 4));
            let slot = class.and_then(|class| class.get_mut(usize::from(which & 15)));
            *slot.ok_or_else(bad)? = Some(table);
            segment = rest;
        }
        Ok(())
    }

    /// Walks the scan whose header was read.
    fn scan(&mut self, header: &[u8]) -> Checked<()> {
        let frame = self.frame.as_mut().ok_or("it has no frame header")?;
        let count = usize::from(byte(header, 0)?);
        let pass = Pass::new(
            frame.progressive,
            byte(header, 1 + 2 * count)?,
            byte(header, 2 + 2 * count)?,
            byte(header, 3 + 2 * count)?,
        );
        let mut parts = Vec::new();
        for i in 0..count {
            let (id, tables) = (byte(header, 1 + 2 * i)?, byte(header, 2 + 2 * i)?);
            let found = frame.components.iter().position(|c| c.id == id);
            let component = found.ok_or_else(|| format!("there is no component {id}"))?;
            frame.components[component].found = true;
            let [dc, ac] = [tables >> 4 & 3, tables & 3].map(usize::from);
            let tables = [&self.huffman[0][dc], &self.huffman[1][ac]];
            parts.push((component, tables.map(Option::as_deref)));
        }
        let alone = parts.len() == 1;
        let [across, down] = match parts.as_slice() {
            [(component, _)] => frame.blocks(&frame.components[*component]),
            _ => frame.units(),
        };
        let mut bits = Bits::new(self.bytes, self.at);
        // The number of following blocks without new data.
        let mut run = 0;
        for unit in 0..across * down {
            if self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0 {
                bits.restart()?;
                run = 0;
            }
            let [x, y] = [unit % across, unit / across];
            for &(component, tables) in &parts {
                let component = &mut frame.components[component];
                let [wide, high] = if alone { [1, 1] } else { component.sampling };
                for block in 0..wide * high {
                    let [column, line] = [wide * x + block % wide, high * y + block / wide];
                    let known = component.known.get_mut(line * component.stride + column);
                    pass.block(&mut bits, tables, &mut run, known.unwrap_or(&mut 0))?;
                }
            }
        }
        self.at = bits.end()?;
        Ok(())
    }
}
