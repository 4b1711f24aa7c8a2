//! Cumulative distributions as an SVG picture.

use std::fmt::Write as _;

/// One pair of axes.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) curves: Vec<Curve>,
}

/// One distribution.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f64>,
}

const WIDTH: f64 = 760.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 34.0;
const COLOURS: [&str; 3] = ["#0b6e4f", "#c0392b", "#2457a6"];
const TICKS: u32 = 5;

/// Draws one panel below the other: which share of the trials was over after how many milliseconds.
pub(crate) fn cumulative(panels: &[Panel]) -> String {
    let count = f64::from(u32::try_from(panels.len()).unwrap_or(u32::MAX));
    let height = TOP + count * PANEL;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\">Client silence: share of trials that were over after so many ms</text>\n"
    );
    let mut top = TOP;
    for panel in panels {
        draw(&mut svg, panel, top);
        top += PANEL;
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, top: f64) {
    let (right, bottom) = (WIDTH - RIGHT, top + PANEL - BOTTOM);
    let largest = panel
        .curves
        .iter()
        .flat_map(|curve| &curve.values)
        .fold(0.0_f64, |a, b| a.max(*b));
    let scale_end = round_up(largest.max(0.1));
    let x = |value: f64| LEFT + (right - LEFT) * value / scale_end;
    let y = |share: f64| bottom - (bottom - top) * share;
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-weight=\"bold\">{}</text>\n\
         <path d=\"M{LEFT} {top} V{bottom} H{right}\" fill=\"none\" stroke=\"black\"/>",
        LEFT - 34.0,
        f64::midpoint(top, bottom),
        panel.title
    );
    for share in [0.0, 0.5, 1.0] {
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#555\">{share}</text>",
            LEFT - 6.0,
            y(share) + 4.0
        );
    }
    for tick in 0..=TICKS {
        let value = scale_end * f64::from(tick) / f64::from(TICKS);
        let _ = writeln!(
            svg,
            "<path d=\"M{0:.1} {bottom} v4\" stroke=\"black\"/>\
             <text x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"middle\" fill=\"#555\">{2}</text>",
            x(value),
            bottom + 17.0,
            rounded(value)
        );
    }
    for (index, curve) in panel.curves.iter().enumerate() {
        let Some(colour) = COLOURS.get(index) else {
            continue;
        };
        let mut sorted = curve.values.clone();
        sorted.sort_by(f64::total_cmp);
        let total = f64::from(u32::try_from(sorted.len()).unwrap_or(u32::MAX));
        let mut path = format!("M{LEFT} {bottom:.1}");
        let mut share = 0.0;
        for value in &sorted {
            share += 1.0 / total;
            let _ = write!(path, " H{:.1} V{:.1}", x(*value), y(share));
        }
        let legend = top + 16.0 * f64::from(u32::try_from(index).unwrap_or(0)) + 14.0;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{legend}\" fill=\"{colour}\">{}</text>",
            right + 14.0,
            curve.name
        );
    }
}

/// The next of 1, 2, 5, 10, 20, 50, … times 0.1.
fn round_up(value: f64) -> f64 {
    let mut scale = 0.1;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if value <= scale * factor {
                return scale * factor;
            }
        }
        scale *= 10.0;
    }
}

/// Without the noise of binary fractions.
fn rounded(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_at_its_largest_value_and_at_one() {
        let svg = cumulative(&[Panel {
            title: "power-off",
            curves: vec![Curve {
                name: "had",
                values: vec![10.0, 5.0],
            }],
        }]);
        // 10 of a scale that ends at 10: the right edge, and the panel's top.
        assert!(svg.contains(" H610.0 V46.0\""), "{svg}");
        assert!(svg.contains(">power-off<") && svg.contains(">had<"));
    }

    #[test]
    fn scales_end_at_round_numbers() {
        assert!((round_up(41.3) - 50.0).abs() < 1e-9);
        assert!((round_up(0.07) - 0.1).abs() < 1e-9);
    }
}
