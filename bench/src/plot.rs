//! Curves as an SVG image, both axes by powers of ten.
//!
//! Invariant: plain text that any browser shows; no script, no font of its own.

use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 480.0;
/// Room for the axes' numbers; on the right for the names.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 340.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Okabe and Ito's colours, told apart by everyone.
const COLOURS: [&str; 7] =
    ["#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"];

/// Points with positive coordinates, from left to right.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Draws curves under a title; what is not positive is left out.
pub fn svg(title: &str, curves: &[Curve]) -> String {
    let drawn = |&&(x, y): &&(f64, f64)| x > 0.0 && y > 0.0;
    let points = || curves.iter().flat_map(|curve| curve.points.iter()).filter(drawn);
    let (left, right) = decades(points().map(|point| point.0));
    let (low, high) = decades(points().map(|point| point.1));
    let x = |value: f64| LEFT + (value.log10() - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (value.log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a String takes all text");
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    ));
    line(format!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"));
    line(format!("<text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}</text>", escaped(title)));
    for decade in left as i32..=right as i32 {
        let at = x(10_f64.powi(decade));
        let (top, bottom) = (TOP, HEIGHT - BOTTOM);
        line(format!(
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            power(decade)
        ));
    }
    for decade in low as i32..=high as i32 {
        let at = y(10_f64.powi(decade));
        line(format!(
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            power(decade)
        ));
    }
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let dash = if number < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
        let points: Vec<_> = curve.points.iter().filter(drawn).collect();
        let path: Vec<_> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        line(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            path.join(" ")
        ));
        let at = TOP + 18.0 * number as f64;
        let from = WIDTH - RIGHT + 12.0;
        line(format!(
            "<path d=\"M{from} {at}h22\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            from + 28.0,
            at + 4.0,
            escaped(&curve.name)
        ));
    }
    line("</svg>".to_owned());
    out
}

/// The powers of ten around some numbers, one apart at least.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value.log10().floor()), high.max(value.log10().ceil()))
    });
    if low > high { (0.0, 1.0) } else { (low, high.max(low + 1.0)) }
}

/// 3 → `1000`, 6 → `1e6`.
fn power(decade: i32) -> String {
    match decade {
        -2..=4 => format!("{}", 10_f64.powi(decade)),
        _ => format!("1e{decade}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_go_from_decade_to_decade() {
        let curve = |name: &str, points: &[(f64, f64)]| Curve {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let text = svg(
            "a < b",
            &[
                curve("one & only", &[(1.0, 0.5), (100.0, 50.0), (1e6, 5.0)]),
                curve("none", &[(0.0, 1.0), (1.0, 0.0)]),
            ],
        );
        for part in ["a &lt; b", "one &amp; only", "points=\"\"", ">0.1<", ">100<", ">1e6<"] {
            assert!(text.contains(part), "no {part}:\n{text}");
        }
        // 1 is the left edge, a million the right one; 0.5 lies 0.699 of a decade above 0.1.
        let up = (0.5_f64.log10() + 1.0) / 3.0 * (HEIGHT - TOP - BOTTOM);
        assert!(
            text.contains(&format!("points=\"{LEFT:.1},{:.1}", HEIGHT - BOTTOM - up)),
            "{text}"
        );
        assert!(text.contains(&format!(" {:.1},", WIDTH - RIGHT)), "{text}");
        assert!(svg("", &[]).ends_with("</svg>\n"));
    }
}
