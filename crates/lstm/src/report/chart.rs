//! Charts as SVG, small enough for a page to hold dozens. Their colours are the page's style, so that they follow light and dark,
//! which no plotting crate's output does.

use std::fmt::Write;

use super::page::escape;

/// How an axis runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By factors; only values above 0 are drawn.
    Log,
    /// By factors from 1 on, with a place for 0: log(1 + x).
    LogFromZero,
}

/// A curve or a level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Curve {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether it is a thing to compare with, drawn in dashes.
    pub(crate) dashed: bool,
    /// Which of the eight colours.
    pub(crate) colour: usize,
    /// How far it spreads, as the lower and the upper bound at each x.
    pub(crate) spread: Vec<(f64, f64, f64)>,
}

impl Curve {
    /// A curve through points.
    pub(crate) fn new(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, colour: colour % 8, ..Self::default() }
    }
}

/// A chart of curves over one axis.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chart<'a> {
    /// What it shows.
    pub(crate) title: &'a str,
    /// The name of the horizontal axis.
    pub(crate) x: &'a str,
    /// How the axes run.
    pub(crate) x_scale: Scale,
    pub(crate) y_scale: Scale,
    /// The curves.
    pub(crate) curves: Vec<Curve>,
}

/// The most points of a curve: a pixel each.
const MOST_POINTS: usize = 300;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 34.0;

impl Scale {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.ln(),
            Self::LogFromZero => (1.0 + value).ln(),
        }
    }

    fn takes(self, value: f64) -> bool {
        value.is_finite() && (self != Self::Log || value > 0.0)
    }

    /// Where lines are drawn between two values.
    fn ticks(self, low: f64, high: f64) -> Vec<f64> {
        let even = || {
            let rough = (high - low).max(1e-12) / 4.0;
            let power = 10f64.powf(rough.log10().floor());
            let step =
                [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough);
            let first = (low / step).ceil() as i64;
            (first..first + 12).map(|n| n as f64 * step).take_while(|tick| *tick <= high + 1e-9 * step).collect()
        };
        if self == Self::Linear || self == Self::Log && high / low < 4.0 {
            return even();
        }
        let decades = (low.max(1.0).log10().floor() as i32..=high.max(1.0).log10().ceil() as i32).collect::<Vec<_>>();
        let low_decade = if low < 1.0 { low.max(1e-12).log10().floor() as i32 } else { decades[0] };
        let factors: &[f64] = if high / low.max(1e-12) < 60.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks: Vec<f64> = match self {
            Self::LogFromZero => vec![0.0],
            _ => Vec::new(),
        };
        let from = if self == Self::LogFromZero { 1 } else { low_decade };
        for decade in from..=high.max(1e-12).log10().ceil() as i32 {
            ticks.extend(factors.iter().map(|factor| factor * 10f64.powi(decade)));
        }
        ticks.retain(|tick| (low..=high).contains(tick));
        while ticks.len() > 8 {
            ticks = ticks.into_iter().step_by(2).collect();
        }
        ticks
    }
}

/// A number as short as an axis has it.
fn short(value: f64) -> String {
    let (number, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if number != 0.0 && number.abs() < 1e-3 {
        return format!("{number:.0e}");
    }
    let text = format!("{number:.4}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// As many points as can be seen, the first and the last among them.
pub(crate) fn thinned<T: Clone>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most {
        return points.to_vec();
    }
    (0..most).map(|n| points[n * (points.len() - 1) / (most - 1)].clone()).collect()
}

impl Chart<'_> {
    /// The chart with its legend, or nothing where there is nothing to draw.
    pub(crate) fn html(&self) -> String {
        let Self { title, x, x_scale, y_scale, curves } = self;
        let seen = |&(x, y): &(f64, f64)| x_scale.takes(x) && y_scale.takes(y);
        let curves: Vec<Curve> = curves
            .iter()
            .map(|curve| {
                let points: Vec<(f64, f64)> = curve.points.iter().copied().filter(seen).collect();
                Curve { points: thinned(&points, MOST_POINTS), ..curve.clone() }
            })
            .filter(|curve| !curve.points.is_empty())
            .collect();
        let all = || curves.iter().flat_map(|curve| &curve.points);
        if all().next().is_none() {
            return String::new();
        }
        let bounds = |of: fn(&(f64, f64)) -> f64| {
            all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (mut x_low, mut x_high) = bounds(|point| point.0);
        let (mut y_low, mut y_high) = bounds(|point| point.1);
        for (low, high, scale) in [(&mut x_low, &mut x_high, x_scale), (&mut y_low, &mut y_high, y_scale)] {
            if *high - *low < 1e-9 * high.abs().max(1e-9) {
                let margin = if *scale == Scale::Log {
                    0.1 * low.abs()
                } else if *low == 0.0 {
                    0.5
                } else {
                    0.3 * low.abs()
                };
                (*low, *high) = (*low - margin, *high + margin);
            }
        }
        let place = |scale: &Scale, low: f64, high: f64, value: f64| {
            (scale.of(value) - scale.of(low)) / (scale.of(high) - scale.of(low))
        };
        let px = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * place(x_scale, x_low, x_high, value);
        let py = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * place(y_scale, y_low, y_high, value);
        let mut svg = String::new();
        for tick in y_scale.ticks(y_low, y_high) {
            let (y, right) = (py(tick), WIDTH - RIGHT);
            let _ = write!(svg, "<path class=\"grid-line\" d=\"M{LEFT} {y:.1}H{right}\"/>");
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(tick)
            );
        }
        let bottom = HEIGHT - BOTTOM;
        for tick in x_scale.ticks(x_low, x_high) {
            let at = px(tick);
            let _ = write!(svg, "<path class=\"grid-line\" d=\"M{at:.1} {bottom}v4\"/>");
            let _ = write!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                short(tick)
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 3.0,
            escape(x)
        );
        for Curve { points, dashed, colour, spread, .. } in &curves {
            if spread.len() > 1 {
                let upper = spread.iter().map(|&(x, _, high)| (x, high));
                let around: Vec<(f64, f64)> =
                    upper.chain(spread.iter().rev().map(|&(x, low, _)| (x, low))).filter(seen).collect();
                let path: String =
                    around.iter().map(|&(x, y)| format!("{:.1} {:.1} ", px(x), py(y.clamp(y_low, y_high)))).collect();
                let _ = write!(svg, "<polygon class=\"band f{colour}\" points=\"{}\"/>", path.trim_end());
            }
            let path: Vec<String> = points.iter().map(|&(x, y)| format!("{:.1} {:.1}", px(x), py(y))).collect();
            let dashed = if *dashed { " dashed" } else { "" };
            // A single point is drawn as a short line.
            let end = if points.len() == 1 { "h4" } else { "" };
            let _ = write!(svg, "<path class=\"curve s{colour}{dashed}\" d=\"M{}{end}\"/>", path.join("L"));
        }
        let legend: String = curves
            .iter()
            .map(|curve| format!("<li class=\"k{}\"><i></i>{}</li>", curve.colour, escape(&curve.name)))
            .collect();
        let ends: Vec<String> = curves
            .iter()
            .filter_map(|curve| Some(format!("{} {}", curve.name, short(curve.points.last()?.1))))
            .collect();
        format!(
            "<figure><h3>{title}</h3><ul class=\"legend\">{legend}</ul><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title} against {}; at the end: {}\">{svg}</svg></figure>\n",
            escape(x),
            escape(&ends.join(", ")),
            title = escape(title),
        )
    }
}

/// Shares that add up to one, over an axis by factors from 0, from the bottom up.
pub(crate) fn shares(title: &str, x: &str, steps: &[f64], bands: &[Vec<f64>]) -> String {
    const WIDTH: f64 = 280.0;
    const HEIGHT: f64 = 130.0;
    const BOTTOM: f64 = 18.0;
    let scale = Scale::LogFromZero;
    let (low, high) = (steps.first().copied().unwrap_or(0.0), steps.last().copied().unwrap_or(1.0).max(1.0));
    let px = |value: f64| WIDTH * (scale.of(value) - scale.of(low)) / (scale.of(high) - scale.of(low)).max(1e-9);
    let py = |share: f64| (HEIGHT - BOTTOM) * (1.0 - share);
    let count = bands.first().map_or(0, Vec::len);
    let mut svg = String::new();
    let below = |band: usize, at: usize| bands[at][..band].iter().sum::<f64>().min(1.0);
    // One measurement is a bar.
    let xs: Vec<f64> = if steps.len() == 1 { vec![0.0, WIDTH] } else { steps.iter().map(|step| px(*step)).collect() };
    let at = |index: usize| index.min(bands.len() - 1);
    for band in 0..count {
        let upper = (0..xs.len()).map(|index| (xs[index], below(band + 1, at(index))));
        let lower = (0..xs.len()).rev().map(|index| (xs[index], below(band, at(index))));
        let path: String = upper.chain(lower).map(|(x, share)| format!("{x:.1} {:.1} ", py(share))).collect();
        let _ = write!(svg, "<polygon class=\"g{band}\" points=\"{}\"/>", path.trim_end());
    }
    let mut last = f64::NEG_INFINITY;
    for tick in scale.ticks(low, high) {
        let anchor = if px(tick) < 8.0 {
            "start"
        } else if px(tick) > WIDTH - 16.0 {
            "end"
        } else {
            "middle"
        };
        if px(tick) - last > 30.0 {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                px(tick),
                HEIGHT - 4.0,
                short(tick)
            );
            last = px(tick);
        }
    }
    let share = |bin: usize| bands.last().map_or(0.0, |bins| 100.0 * bins[bin]);
    let said = format!("{:.0} % in the lowest tenth, {:.0} % in the highest", share(0), share(count.saturating_sub(1)));
    format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} against {}, at the end {said}\">{svg}</svg>\
         <figcaption><b>{title}</b>: {said}</figcaption></figure>\n",
        escape(x),
        title = escape(title),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_draws_what_can_be_drawn_and_says_where_it_ends() {
        let curve = Curve::new("a < b", 1, vec![(0.0, f64::NAN), (1.0, 8.0), (2.0, f64::INFINITY), (3.0, 2.0)]);
        let chart = Chart { title: "loss", x: "steps", y_scale: Scale::Log, curves: vec![curve], ..Chart::default() };
        let html = chart.html();
        assert!(html.contains("a &lt; b 2") && !html.contains("NaN") && !html.contains("inf"), "{html}");
        assert!(Chart { title: "nothing", ..Chart::default() }.html().is_empty());
        let single = Chart { curves: vec![Curve::new("one", 0, vec![(5.0, 5.0)])], ..Chart::default() }.html();
        assert!(!single.contains("NaN"), "{single}");
    }

    #[test]
    fn ticks_stand_where_people_look_for_them() {
        assert_eq!(Scale::Linear.ticks(0.0, 1000.0), [0.0, 500.0, 1000.0]);
        assert_eq!(Scale::Log.ticks(8.0, 450.0), [10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(Scale::LogFromZero.ticks(0.0, 12_000.0), [0.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!([0.25, 1500.0, 23_000.0, 2e6].map(short), ["0.25", "1500", "23k", "2M"].map(str::to_owned));
    }

    #[test]
    fn a_curve_is_thinned_between_its_ends() {
        let many: Vec<usize> = (0..10_001).collect();
        let few = thinned(&many, 300);
        assert_eq!((few.len(), few[0], few[299]), (300, 0, 10_000));
    }
}
