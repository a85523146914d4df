//! Products of small packed matrices, for attention.
//!
//! The left matrix is packed in panels of a few rows, the right one in panels of one or two vectors of
//! columns, both with the summed index outermost (Goto & van de Geijn 2008). A tile of the product
//! stays in registers while the two panels are read.

use pulp::{Simd, WithSimd};

use super::isa::outlined;

/// A matrix in a slice: element (i, j) is `data[i·row + j·column]`.
#[derive(Clone, Copy)]
pub(crate) struct MatrixView<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> MatrixView<'a> {
    /// Rows of `width` floats, one after the other.
    pub(crate) fn rows(data: &'a [f32], width: usize) -> Self {
        Self {
            data,
            row: width,
            column: 1,
        }
    }

    /// From row `i` and column `j` on.
    pub(crate) fn from(self, i: usize, j: usize) -> Self {
        Self {
            data: self
                .data
                .get(i * self.row + j * self.column..)
                .unwrap_or(&[]),
            ..self
        }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            row: self.column,
            column: self.row,
            ..self
        }
    }
}

/// Rows of a full tile: with two vectors each, they leave registers for the operands.
const fn tall<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

/// Rows of the next panel if `left` rows are left: a third, two thirds or all of a full tile.
#[inline(always)]
fn height<S: Simd>(left: usize) -> usize {
    let third = tall::<S>() / 3;
    left.div_ceil(third).min(3) * third
}

/// Columns of the next panel if `left` columns are left: one or two vectors.
#[inline(always)]
fn width<S: Simd>(left: usize) -> usize {
    left.div_ceil(S::F32_LANES).min(2) * S::F32_LANES
}

/// The most floats, on any instruction set, of `m`×`k` packed as a left matrix.
pub(crate) fn left_len(m: usize, k: usize) -> usize {
    m.next_multiple_of(4) * k
}

/// The most floats, on any instruction set, of `k`×`n` packed as a right matrix.
pub(crate) fn right_len(k: usize, n: usize) -> usize {
    n.next_multiple_of(16) * k
}

/// Packs the `m`×`k` matrix `a` in panels `[k][height]`.
pub(crate) fn pack_left<S: Simd>(
    simd: S,
    a: MatrixView<'_>,
    m: usize,
    k: usize,
    packed: &mut [f32],
) {
    let (mut i, mut rest) = (0, packed);
    while i < m {
        let width = height::<S>(m - i);
        let (panel, others) = rest.split_at_mut(width * k);
        let pack = Pack {
            matrix: a.from(i, 0).transposed(),
            rows: k,
            count: width.min(m - i),
            width,
            panel,
        };
        outlined(simd, pack);
        (i, rest) = (i + width, others);
    }
}

/// Packs the `k`×`n` matrix `b` in panels `[k][width]`.
pub(crate) fn pack_right<S: Simd>(
    simd: S,
    b: MatrixView<'_>,
    k: usize,
    n: usize,
    packed: &mut [f32],
) {
    let (mut j, mut rest) = (0, packed);
    while j < n {
        let width = width::<S>(n - j);
        let (panel, others) = rest.split_at_mut(width * k);
        let pack = Pack {
            matrix: b.from(0, j),
            rows: k,
            count: width.min(n - j),
            width,
            panel,
        };
        outlined(simd, pack);
        (j, rest) = (j + width, others);
    }
}

/// Copies `count` columns of the first `rows` rows of a matrix into rows of `width` floats, with zeros
/// after them.
struct Pack<'a> {
    matrix: MatrixView<'a>,
    rows: usize,
    count: usize,
    width: usize,
    panel: &'a mut [f32],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // The heights and widths of this instruction set: a third, two thirds or all of a tile's
        // rows, and one or two vectors.
        match (tall::<S>(), S::F32_LANES, self.width) {
            (6, _, 2) => self.run::<2>(),
            (_, _, 4) => self.run::<4>(),
            (6, _, 6) => self.run::<6>(),
            (_, 4 | 8, 8) | (12, _, 8) => self.run::<8>(),
            (12, _, 12) => self.run::<12>(),
            (_, 8 | 16, 16) => self.run::<16>(),
            (_, 16, 32) => self.run::<32>(),
            _ => self.run::<1>(),
        }
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn run<const W: usize>(self) {
        pack_rows::<W>(self.matrix, self.rows, self.count, self.panel);
    }
}

/// [`Pack`] for a width known to the compiler.
#[inline(always)]
fn pack_rows<const W: usize>(a: MatrixView<'_>, k: usize, count: usize, panel: &mut [f32]) {
    let (rows, _) = panel.as_chunks_mut::<W>();
    if count < W {
        for (i, to) in rows.iter_mut().enumerate() {
            *to = [0.0; W];
            for (j, to) in to[..count].iter_mut().enumerate() {
                *to = a.data[i * a.row + j * a.column];
            }
        }
    } else if a.column == 1 {
        for (i, to) in rows.iter_mut().enumerate() {
            to.copy_from_slice(&a.data[i * a.row..][..W]);
        }
    } else if a.row == 1 {
        transpose(a, k, rows);
    } else {
        for (i, to) in rows.iter_mut().enumerate() {
            for (j, to) in to.iter_mut().enumerate() {
                *to = a.data[i * a.row + j * a.column];
            }
        }
    }
}

/// Transposes `W` columns, each contiguous, into rows.
#[inline(always)]
fn transpose<const W: usize>(a: MatrixView<'_>, k: usize, rows: &mut [[f32; W]]) {
    for j in (0..W).step_by(4) {
        match W - j {
            1 => transpose_columns::<W, 1>(a, j, k, rows),
            2 => transpose_columns::<W, 2>(a, j, k, rows),
            _ => transpose_columns::<W, 4>(a, j, k, rows),
        }
    }
}

/// Transposes columns `j..j + C`, in blocks of four rows, which the compiler turns into shuffles.
#[inline(always)]
fn transpose_columns<const W: usize, const C: usize>(
    a: MatrixView<'_>,
    j: usize,
    k: usize,
    rows: &mut [[f32; W]],
) {
    let mut columns = [(&[][..], &[][..]); C];
    for (c, column) in columns.iter_mut().enumerate() {
        *column = a.data[(j + c) * a.column..][..k].as_chunks::<4>();
    }
    let (blocks, rest) = rows.as_chunks_mut::<4>();
    for (i, to) in blocks.iter_mut().enumerate() {
        let mut from = [[0.0; 4]; C];
        for (from, column) in from.iter_mut().zip(&columns) {
            *from = column.0[i];
        }
        for (r, to) in to.iter_mut().enumerate() {
            for (to, from) in to[j..j + C].iter_mut().zip(&from) {
                *to = from[r];
            }
        }
    }
    for (i, to) in rest.iter_mut().enumerate() {
        for (to, column) in to[j..j + C].iter_mut().zip(&columns) {
            *to = column.1[i];
        }
    }
}

/// Where a product is written.
pub(crate) struct Output<'a> {
    /// Rows that start `stride` floats apart.
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    /// Whether the product is added to the elements that are there.
    pub(crate) add: bool,
    /// Added to every row of the product.
    pub(crate) bias: Option<&'a [f32]>,
}

/// Computes the `m`×`n` product of a packed left and a packed right matrix with `k` terms, in order.
pub(crate) fn multiply<S: Simd>(
    simd: S,
    sizes: [usize; 3],
    left: &[f32],
    right: &[f32],
    out: &mut Output<'_>,
) {
    let multiply = Multiply {
        sizes,
        left,
        right,
        out,
    };
    outlined(simd, multiply);
}

struct Multiply<'a, 'b> {
    /// m, n and k.
    sizes: [usize; 3],
    left: &'a [f32],
    right: &'a [f32],
    out: &'a mut Output<'b>,
}

impl WithSimd for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [m, n, k] = self.sizes;
        let (mut i, mut left) = (0, self.left);
        while i < m {
            let h = height::<S>(m - i);
            let (panel, others) = left.split_at(h * k);
            let to = &PanelRows {
                rows: i..m.min(i + h),
                n,
            };
            let (right, out) = (self.right, &mut *self.out);
            match (tall::<S>(), h) {
                (12, 12) => row_of_tiles::<S, 12>(simd, k, panel, right, to, out),
                (12, 8) => row_of_tiles::<S, 8>(simd, k, panel, right, to, out),
                (12 | 6, 4) => row_of_tiles::<S, 4>(simd, k, panel, right, to, out),
                (6, 6) => row_of_tiles::<S, 6>(simd, k, panel, right, to, out),
                _ => row_of_tiles::<S, 2>(simd, k, panel, right, to, out),
            }
            (i, left) = (i + h, others);
        }
    }
}

/// The product's rows from one panel, and the number of its columns.
struct PanelRows {
    rows: std::ops::Range<usize>,
    n: usize,
}

#[inline(always)]
fn row_of_tiles<S: Simd, const H: usize>(
    simd: S,
    k: usize,
    left: &[f32],
    right: &[f32],
    to: &PanelRows,
    out: &mut Output<'_>,
) {
    let (mut j, mut right) = (0, right);
    while j < to.n {
        let w = width::<S>(to.n - j);
        let (panel, others) = right.split_at(w * k);
        let columns = j..to.n.min(j + w);
        if w > S::F32_LANES {
            let tile = tile::<S, H, 2>(simd, left, panel);
            store(simd, &tile, to, columns, out);
        } else {
            let tile = tile::<S, H, 1>(simd, left, panel);
            store(simd, &tile, to, columns, out);
        }
        (j, right) = (j + w, others);
    }
}

/// Σₖ left[k][h]·right[k][v].
#[inline(always)]
fn tile<S: Simd, const H: usize, const V: usize>(
    simd: S,
    left: &[f32],
    right: &[f32],
) -> [[S::f32s; V]; H] {
    let mut sums = [[simd.splat_f32s(0.0); V]; H];
    let (left, _) = left.as_chunks::<H>();
    let (right, _) = S::as_simd_f32s(right).0.as_chunks::<V>();
    for (left, right) in left.iter().zip(right) {
        for (sums, &a) in sums.iter_mut().zip(left) {
            let a = simd.splat_f32s(a);
            for (sum, &b) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(a, b, *sum);
            }
        }
    }
    sums
}

#[inline(always)]
fn store<S: Simd, const H: usize, const V: usize>(
    simd: S,
    tile: &[[S::f32s; V]; H],
    to: &PanelRows,
    columns: std::ops::Range<usize>,
    out: &mut Output<'_>,
) {
    for (h, sums) in tile.iter().enumerate().take(to.rows.len()) {
        let start = (to.rows.start + h) * out.stride;
        let row = &mut out.data[start..][columns.clone()];
        let bias = out.bias.map(|bias| &bias[columns.clone()]);
        for (v, &sum) in sums.iter().enumerate() {
            let lanes = (v * S::F32_LANES).min(row.len())..((v + 1) * S::F32_LANES).min(row.len());
            let mut sum = sum;
            if let Some(bias) = bias {
                sum = simd.add_f32s(sum, simd.partial_load_f32s(&bias[lanes.clone()]));
            }
            let row = &mut row[lanes];
            if let ([row], _) = S::as_mut_simd_f32s(row) {
                *row = if out.add {
                    simd.add_f32s(*row, sum)
                } else {
                    sum
                };
            } else {
                if out.add {
                    sum = simd.add_f32s(simd.partial_load_f32s(row), sum);
                }
                simd.partial_store_f32s(row, sum);
            }
        }
    }
}
