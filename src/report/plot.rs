//! Figures over depth as inline SVG: predicted line, sampled band, measured points with intervals.
//!
//! Colours are those of a light page; the page's style sheet finds them by value and changes them for a dark one.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::profile::Quantity;
use crate::report::curves::{Curve, Curves};
use crate::report::words::digits;

const SIZE: (u32, u32) = (380, 230);
const TEXT: RGBColor = RGBColor(0x20, 0x20, 0x21);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xde);
const BAND: RGBColor = RGBColor(0xb5, 0xd3, 0xee);
const MEASURED: RGBColor = RGBColor(0x9a, 0x4a, 0x0a);
/// Lines of predictions; the first where there is one.
const LINES: [RGBColor; 6] = [
    RGBColor(0x0b, 0x5f, 0xa5),
    RGBColor(0x6a, 0x3d, 0x9a),
    RGBColor(0x00, 0x70, 0x60),
    RGBColor(0xa0, 0x2c, 0x5d),
    RGBColor(0x5a, 0x5a, 0x00),
    RGBColor(0x44, 0x44, 0x66),
];

/// Pixels between two names one below the other.
const LINE_HEIGHT: i32 = 13;

/// The ratio of largest to smallest value from which a logarithmic axis helps.
const LOGARITHMIC: f64 = 100.0;

/// A picture with its name, and a sentence that says what it shows to those who do not see it.
pub struct Picture {
    pub name: String,
    pub words: String,
    pub svg: String,
}

/// The pictures of a placement: second moment, overlap and gradient of x, and the gradients of its matrices.
pub fn pictures(curves: &Curves) -> Result<Vec<Picture>> {
    let of = |quantity: Quantity| curves.curves.iter().filter(move |c| c.of == "x" && c.quantity == quantity);
    let matrices: Vec<&Curve> = curves.curves.iter().filter(|curve| curve.of != "x").collect();
    let mut panels = vec![
        ("second moment of x", of(Quantity::SecondMoment).collect()),
        ("overlap of tokens", of(Quantity::Overlap).collect()),
        ("gradient at x", of(Quantity::Gradient).collect()),
    ];
    // Queries and keys live on another scale than values.
    let (scores, values): (Vec<&Curve>, Vec<&Curve>) =
        matrices.into_iter().partition(|c| ["w_q", "w_k"].contains(&c.of.as_str()));
    panels.push(("gradients of the matrices", values));
    panels.push(("gradients of queries and keys", scores));
    let pictures = panels.into_iter().map(|(name, curves)| picture(name, &curves));
    pictures.filter_map(Result::transpose).collect()
}

/// Curves in one picture; `None` where there is no number to show.
pub fn picture(name: &str, curves: &[&Curve]) -> Result<Option<Picture>> {
    let spans: Vec<(f64, f64)> = curves.iter().filter_map(|curve| span(curve)).collect();
    if spans.is_empty() {
        return Ok(None);
    }
    let low = spans.iter().map(|span| span.0).fold(f64::INFINITY, f64::min);
    let high = spans.iter().map(|span| span.1).fold(f64::NEG_INFINITY, f64::max);
    let logarithmic = low > 0.0 && high / low > LOGARITHMIC;
    let mut svg = String::new();
    let drawn = match logarithmic {
        true => draw(curves, (low / 1.2..high * 1.2).log_scale(), &mut svg),
        false => {
            // Figures that differ by rounding only are drawn flat.
            let room = (0.08 * (high - low)).max(0.05 * high.abs()).max(f64::EPSILON);
            draw(curves, low - room..high + room, &mut svg)
        }
    };
    drawn.map_err(|error| Error::Refused {
        subject: format!("the picture of {name}"),
        reason: error.to_string(),
        help: "this is a defect of normative".into(),
    })?;
    let ends = |curve: &&Curve| {
        let of = if curves.len() > 1 { format!("{} ", curve.of) } else { String::new() };
        let predicted: Vec<f64> = curve.points.iter().filter_map(|point| point.predicted).collect();
        Some(format!("{of}from {} to {}", digits(*predicted.first()?), digits(*predicted.last()?)))
    };
    let words =
        format!("{name} by block, predicted: {}", curves.iter().filter_map(ends).collect::<Vec<_>>().join(", "));
    let name = if logarithmic { format!("{name} (logarithmic)") } else { name.to_owned() };
    Ok(Some(Picture { name, words, svg: inline(&svg) }))
}

/// A picture as a part of a page, whose style sheet sets its size, its letters and the ink of what has no colour; the
/// picture keeps its proportions.
fn inline(svg: &str) -> String {
    let size = format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1);
    let ink = format!(" fill=\"#{:02X}{:02X}{:02X}\"", TEXT.0, TEXT.1, TEXT.2);
    let mut svg = svg.replacen(&size, "", 1).replace('\n', "").replace(&ink, "");
    // What SVG means where nothing is said.
    for default in [" opacity=\"1\"", " stroke=\"none\"", " stroke-width=\"1\""] {
        svg = svg.replace(default, "");
    }
    for attribute in ["xmlns", "font-family", "font-size"] {
        svg = without(&svg, attribute);
    }
    svg.replace(" fill=\"none\"", "").replace(" \"/>", "\"/>")
}

/// A picture without an attribute, whatever its value.
fn without(svg: &str, attribute: &str) -> String {
    let start = format!(" {attribute}=\"");
    let mut parts = svg.split(&start);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rest.push_str(part.split_once('"').map_or("", |(_, after)| after));
    }
    rest
}

/// Smallest and largest of all that a curve shows.
fn span(curve: &Curve) -> Option<(f64, f64)> {
    let of = |point: &crate::report::curves::Point| {
        let sampled = point.sampled.into_iter().flatten();
        point.predicted.into_iter().chain(sampled).chain(point.measured.into_iter().flatten()).collect::<Vec<_>>()
    };
    let finite: Vec<f64> = curve.points.iter().flat_map(of).filter(|value| value.is_finite()).collect();
    let low = finite.iter().copied().min_by(f64::total_cmp)?;
    Some((low, finite.iter().copied().max_by(f64::total_cmp)?))
}

/// Draws curves over the block's number.
fn draw<Y>(curves: &[&Curve], y: Y, svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let several = curves.len() > 1;
    let longest = curves.iter().map(|curve| curve.of.len()).max().unwrap_or(0);
    let blocks = curves.iter().flat_map(|curve| &curve.points).map(|point| point.block as f64);
    let (first, last) = blocks.fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), x| (a.min(x), b.max(x)));
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(6)
        .margin_right(if several { 14 + 7 * longest as i32 } else { 12 })
        .x_label_area_size(34)
        .y_label_area_size(52)
        .build_cartesian_2d(first - 0.2..last.max(first + 1.0) + 0.2, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(TEXT)
        .label_style(("sans-serif", 12, &TEXT))
        .x_labels(8)
        .y_labels(5)
        .x_desc("block")
        .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() })
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    let mut ends = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let colour = LINES[index % LINES.len()];
        let at = |value: fn(&crate::report::curves::Point) -> Option<f64>| {
            let points = curve.points.iter().filter_map(move |p| Some((p.block as f64, value(p)?)));
            points.filter(|(_, y)| y.is_finite()).collect::<Vec<_>>()
        };
        let mut band = at(|point| Some(point.sampled?[0]));
        band.extend(at(|point| Some(point.sampled?[1])).into_iter().rev());
        let tint = if several { colour.mix(0.15) } else { BAND.mix(0.6) };
        // Bands of matrices lie on each other.
        if !curve.of.starts_with("w_") {
            chart.draw_series([Polygon::new(band, tint.filled())])?;
        }
        let line = at(|point| point.predicted);
        let end = line.last().copied();
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        let points = curve.points.iter().filter_map(|p| Some((p.block as f64, p.measured?)));
        let dots = if several { colour } else { MEASURED };
        for (x, [mean, low, high]) in points {
            chart.draw_series([PathElement::new(vec![(x, low), (x, high)], dots.stroke_width(1))])?;
            chart.draw_series([Circle::new((x, mean), 2, dots.filled())])?;
        }
        ends.extend(end.filter(|_| several).map(|end| (end, curve.of.clone(), colour)));
    }
    // Names stand at the ends of their lines, and where these meet one below the other.
    let height = |end: &(f64, f64)| chart.backend_coord(end).1;
    ends.sort_by_key(|(end, _, _)| height(end));
    let mut free = i32::MIN;
    let mut names = Vec::new();
    for (end, name, colour) in ends {
        let at = height(&end);
        let row = at.max(free);
        free = row + LINE_HEIGHT;
        let style = ("sans-serif", 12).into_font().color(&colour);
        names.push(EmptyElement::at(end) + Text::new(name, (8, row - at - 6), style));
    }
    chart.draw_series(names)?;
    drop(chart);
    area.present()?;
    Ok(())
}

/// A number on an axis.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if (1e-2..1e4).contains(&a) => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.0e}"),
    }
}
