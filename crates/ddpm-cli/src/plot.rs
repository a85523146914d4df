//! Line plots as SVG: small, readable anywhere, and the same bytes for the same numbers.

use std::fmt::Write;

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// What the legend calls it.
    pub name: &'a str,
    /// Any SVG color.
    pub color: &'a str,
    /// x and y of its points, from left to right. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// How the numbers of an axis are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By the logarithm; numbers that are not positive are left out.
    Log,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// The edges of the plot's area: left, top, right, bottom.
const AREA: [f64; 4] = [64.0, 34.0, WIDTH - 20.0, HEIGHT - 46.0];

/// An interval of values and where on the paper it goes.
struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, scale: Scale, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        // Nothing, or a single value, still makes an interval.
        let (low, high) = match (low.is_finite(), low < high) {
            (false, _) => (1.0, 2.0),
            (true, true) => (low, high),
            (true, false) if scale == Scale::Log => (low / 2.0, low * 2.0),
            (true, false) => (low - 0.5, low + 0.5),
        };
        Self {
            low,
            high,
            scale,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share * (self.to - self.from)
    }

    /// Round values inside the interval, at least two of them for intervals that are not absurd.
    fn ticks(&self) -> Vec<f64> {
        let inside = |v: &f64| (self.low..=self.high).contains(v);
        if self.scale == Scale::Log {
            let steps: &[f64] = if self.high / self.low > 1e3 {
                &[1.0]
            } else {
                &[1.0, 2.0, 3.0, 5.0, 7.0]
            };
            return (-300..=300)
                .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
                .filter(inside)
                .collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|step| step * decade)
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(rough);
        let first = (self.low / step).ceil();
        (0..12)
            .map(|i| (first + f64::from(i)) * step)
            .filter(inside)
            .collect()
    }
}

/// A plot of lines over a common axis that is called `x`, with the scales of both axes.
pub fn svg(x: &str, lines: &[Line], [scale_x, scale]: [Scale; 2]) -> String {
    let [left, top, right, bottom] = AREA;
    let fits = |value: f64, scale| value.is_finite() && (scale == Scale::Linear || value > 0.0);
    let shown = |&&(x, y): &&(f64, f64)| fits(x, scale_x) && fits(y, scale);
    let points = || {
        lines
            .iter()
            .flat_map(|line| line.points.iter().filter(shown))
    };
    let across = Axis::new(points().map(|p| p.0), scale_x, left, right);
    let up = Axis::new(points().map(|p| p.1), scale, bottom, top);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for tick in across.ticks() {
        let at = across.place(tick);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {bottom}v5\" stroke=\"black\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 20.0,
            label(tick)
        );
    }
    for tick in up.ticks() {
        let at = up.place(tick);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            at + 4.5,
            label(tick)
        );
    }
    let mut legend = left;
    for line in lines {
        let path: Vec<_> = line.points.iter().filter(shown).collect();
        let path: Vec<_> = path
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", across.place(*x), up.place(*y)))
            .collect();
        let Line { name, color, .. } = line;
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>\n\
             <text x=\"{legend}\" y=\"20\" fill=\"{color}\">{name}</text>",
            path.join(" ")
        );
        legend += 9.0 * name.chars().count() as f64 + 20.0;
    }
    let _ = writeln!(
        out,
        "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x}</text>\n</svg>",
        f64::midpoint(left, right),
        HEIGHT - 8.0
    );
    out
}

/// A tick's value without the digits that binary fractions add.
fn label(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Points (x, y) thinned to at most `most`: each is the mean of as many neighbours as it takes.
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most.max(1)).max(1);
    points
        .chunks(size)
        .map(|chunk| {
            let sum = chunk
                .iter()
                .fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
            (sum.0 / chunk.len() as f64, sum.1 / chunk.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> [Line<'static>; 1] {
        [Line {
            name: "loss",
            color: "black",
            points: points.to_vec(),
        }]
    }

    #[test]
    fn the_ends_of_a_line_are_the_corners_of_the_area() {
        let text = svg(
            "step",
            &line(&[(0.0, 1.0), (10.0, 100.0)]),
            [Scale::Linear, Scale::Log],
        );
        let [left, top, right, bottom] = AREA;
        let corners = format!("points=\"{left:.1},{bottom:.1} {right:.1},{top:.1}\"");
        assert!(text.contains(&corners), "{text}");
        // 10 is halfway between 1 and 100 on a logarithmic axis.
        let middle = format!("M{left} {:.1}H", f64::midpoint(top, bottom));
        assert!(text.contains(&middle), "{text}");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = |low, high, scale| Axis::new([low, high].into_iter(), scale, 0.0, 1.0);
        let ticks = axis(0.13, 0.84, Scale::Linear).ticks();
        let labels: Vec<_> = ticks.into_iter().map(label).collect();
        assert_eq!(labels, ["0.2", "0.4", "0.6", "0.8"]);
        let ticks = axis(0.09, 0.84, Scale::Log).ticks();
        let labels: Vec<_> = ticks.into_iter().map(label).collect();
        assert_eq!(labels, ["0.1", "0.2", "0.3", "0.5", "0.7"]);
        assert_eq!(axis(1.0, 6000.0, Scale::Linear).ticks().len(), 3);
    }

    #[test]
    fn nothing_one_point_and_numbers_that_are_none_still_make_a_plot() {
        for points in [&[][..], &[(1.0, 1.0)], &[(1.0, f64::NAN), (2.0, -1.0)]] {
            for scale in [Scale::Linear, Scale::Log] {
                let text = svg("step", &line(points), [Scale::Linear, scale]);
                assert!(text.ends_with("</svg>\n"));
                assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            }
        }
    }

    #[test]
    fn thinning_keeps_the_mean() {
        let points: Vec<_> = (0..100).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thinned = thin(&points, 50);
        assert_eq!(thinned.len(), 50);
        assert!(thinned.iter().all(|p| p.1 == 0.5));
        assert_eq!(thin(&points, 1000), points);
        assert!(thin(&[], 10).is_empty());
    }
}
