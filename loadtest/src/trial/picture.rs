//! The picture of a run: charts of lines, one below the other, as SVG by itself.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
/// Room for what stands beside a chart: left, above, right, below.
const LEFT: f64 = 64.0;
const ABOVE: f64 = 34.0;
const RIGHT: f64 = 150.0;
const BELOW: f64 = 44.0;
/// Told apart with any eyes (Okabe and Ito, 2008).
const COLOURS: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

/// Lines over one pair of axes.
pub(crate) struct Chart {
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// What is along an axis, and whether each step is ten times the one before.
pub(crate) struct Axis {
    name: String,
    is_log: bool,
}

impl Axis {
    pub(crate) fn even(name: &str) -> Self {
        Self { name: name.to_owned(), is_log: false }
    }

    pub(crate) fn log(name: &str) -> Self {
        Self { name: name.to_owned(), is_log: true }
    }

    fn scale(&self, value: f64) -> f64 {
        if self.is_log { value.max(1e-6).log10() } else { value }
    }

    fn label(&self, scaled: f64) -> String {
        let value = if self.is_log { 10_f64.powf(scaled) } else { scaled };
        match value.abs() {
            large if large >= 10.0 || large == 0.0 => format!("{value:.0}"),
            small => format!("{value:.*}", if small >= 1.0 { 1 } else { 3 }),
        }
    }
}

/// From where to where an axis goes, in its own scale.
#[derive(Clone, Copy)]
struct Range {
    from: f64,
    to: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>, axis: &Axis) -> Self {
        let scaled = values.filter(|value| value.is_finite()).map(|value| axis.scale(value));
        let (least, most) =
            scaled.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
        match (least > most, axis.is_log) {
            (true, _) => Self { from: 0.0, to: 1.0 },
            (_, true) => Self { from: least.floor(), to: most.ceil().max(least.floor() + 1.0) },
            // An even axis begins at nothing, so that heights can be compared.
            _ => Self { from: least.min(0.0), to: if most > least.min(0.0) { most } else { 1.0 } },
        }
    }

    fn share(self, scaled: f64) -> f64 {
        ((scaled - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn steps(self, axis: &Axis) -> Vec<f64> {
        if axis.is_log {
            return (self.from as i32..=self.to as i32).map(f64::from).collect();
        }
        (0..=4).map(|step| self.from + (self.to - self.from) * f64::from(step) / 4.0).collect()
    }
}

impl Chart {
    pub(crate) fn new(title: &str, x: Axis, y: Axis) -> Self {
        Self { title: title.to_owned(), x, y, lines: Vec::new() }
    }

    #[must_use]
    pub(crate) fn line(mut self, name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.lines.push((name.to_owned(), points.into_iter().collect()));
        self
    }

    fn draw(&self, top: f64, svg: &mut String) {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let across = Range::of(points().map(|point| point.0), &self.x);
        let up = Range::of(points().map(|point| point.1), &self.y);
        let place = |x: f64, y: f64| {
            let right = LEFT + (WIDTH - LEFT - RIGHT) * across.share(x);
            (right, top + HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * up.share(y))
        };
        text(svg, (LEFT, top + 20.0), "start", &self.title);
        for step in across.steps(&self.x) {
            let (x, y) = place(step, up.from);
            rule(svg, (x, y), place(step, up.to));
            text(svg, (x, y + 16.0), "middle", &self.x.label(step));
        }
        for step in up.steps(&self.y) {
            let (x, y) = place(across.from, step);
            rule(svg, (x, y), place(across.to, step));
            text(svg, (x - 6.0, y + 4.0), "end", &self.y.label(step));
        }
        let (middle, bottom) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, top + HEIGHT - 8.0);
        text(svg, (middle, bottom), "middle", &format!("{}, over {}", self.y.name, self.x.name));
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let mut path = String::new();
            for (x, y) in points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
                let (x, y) = place(self.x.scale(*x), self.y.scale(*y));
                let _ = write!(path, "{x:.1},{y:.1} ");
            }
            let y = top + ABOVE + 16.0 * number as f64;
            let _ = writeln!(
                svg,
                r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>"#,
                path.trim_end()
            );
            let _ = writeln!(
                svg,
                r#"<rect x="{}" y="{}" width="10" height="10" fill="{colour}"/>"#,
                WIDTH - RIGHT + 14.0,
                y
            );
            text(svg, (WIDTH - RIGHT + 30.0, y + 9.0), "start", name);
        }
    }
}

/// The picture of these charts.
pub(crate) fn svg(title: &str, charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        escaped(title)
    );
    for (number, chart) in charts.iter().enumerate() {
        chart.draw(HEIGHT * number as f64, &mut svg);
    }
    svg.push_str("</svg>\n");
    svg
}

// Writing to a string cannot fail, here and above.
fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escaped(text));
}

fn rule(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(svg, r##"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="#ddd"/>"##);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner_of_its_chart() {
        let chart = Chart::new("a < b", Axis::even("seconds"), Axis::log("ms")).line("x", [(0.0, 1.0), (10.0, 100.0)]);
        let svg = svg("load", &[chart]);
        let (bottom, right) = (HEIGHT - BELOW, WIDTH - RIGHT);
        assert!(svg.contains(&format!("points=\"{LEFT:.1},{bottom:.1} {right:.1},{ABOVE:.1}\"")), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_to_draw_is_an_empty_chart() {
        let chart =
            Chart::new("t", Axis::even("x"), Axis::log("y")).line("none", []).line("no number", [(f64::NAN, 1.0)]);
        assert!(svg("t", &[chart]).contains(r#"points="""#));
    }
}
