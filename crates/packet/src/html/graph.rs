//! Draws which program used which destination.
use std::collections::{BTreeMap, BTreeSet};

use egress_policy::natural;

use super::super::activity::{OTHERS, Talk};
use super::super::format::boundary::BoundaryDocument;
use super::super::listing::place;
use super::super::shown::{Shown, process};
use super::markup::{Html, shortened};

/// Maximum number of programs in the drawing.
pub(super) const PROGRAMS: usize = 16;
/// Maximum length of a program's name and of a destination, in characters.
const CHARACTERS: [usize; 2] = [28, 34];
const HEIGHT_OF_ROW: usize = 28;

/// An arrow from a program to a destination.
#[derive(Debug, Clone, Copy)]
struct Arrow {
    from: usize,
    to: usize,
    talk: Talk,
}

/// The programs on the left, the destinations on the right, and the arrows between them.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    programs: Vec<&'a str>,
    destinations: Vec<&'a str>,
    arrows: Vec<Arrow>,
}

impl<'a> Graph<'a> {
    /// Returns the drawing of these destinations, each with the traffic of its programs.
    pub(super) fn of(lanes: &[(&'a str, &'a BTreeMap<String, Talk>)]) -> Self {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (program, talk) in lanes.iter().flat_map(|(_, programs)| programs.iter()) {
            let sum = sums.entry(program).or_default();
            *sum = sum.saturating_add(talk.count());
        }
        let mut programs: Vec<(&str, u64)> = sums.into_iter().collect();
        programs.sort_by(|(a, a_count), (b, b_count)| {
            b_count.cmp(a_count).then_with(|| natural::compare(a, b))
        });
        let programs: Vec<&str> = programs
            .into_iter()
            .map(|(name, _)| name)
            .take(PROGRAMS)
            .collect();
        let mut graph = Self {
            programs,
            ..Self::default()
        };
        for (destination, by_program) in lanes {
            let arrows = by_program.iter().filter_map(|(program, talk)| {
                let from = graph.programs.iter().position(|name| name == program)?;
                Some((from, *talk))
            });
            let arrows: Vec<(usize, Talk)> = arrows.collect();
            if arrows.is_empty() {
                continue;
            }
            let to = graph.destinations.len();
            graph.destinations.push(destination);
            let arrows = arrows.into_iter();
            graph
                .arrows
                .extend(arrows.map(|(from, talk)| Arrow { from, to, talk }));
        }
        graph
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrows.is_empty()
    }

    /// Returns the numbers of destinations and programs that the drawing leaves out, in words.
    pub(super) fn left_out(&self, shown: &Shown<'_>) -> Option<String> {
        let kinds = [
            (
                "destination",
                destinations(shown.boundary_document),
                &self.destinations,
            ),
            ("program", programs(shown), &self.programs),
        ];
        let kinds = kinds
            .into_iter()
            .filter_map(|(noun, (all, is_exact), drawn)| {
                let drawn = drawn.iter().filter(|name| **name != OTHERS).count();
                let at_least = if is_exact { "" } else { "at least " };
                match all.saturating_sub(count(drawn)) {
                    0 => None,
                    1 => Some(format!("{at_least}1 {noun}")),
                    rest => Some(format!("{at_least}{rest} {noun}s")),
                }
            });
        let kinds: Vec<String> = kinds.collect();
        (!kinds.is_empty()).then(|| format!("Not drawn: {}.", kinds.join(" and ")))
    }

    pub(super) fn draw(&self, out: &mut Html) {
        let rows = self.programs.len().max(self.destinations.len());
        let height = rows.saturating_mul(HEIGHT_OF_ROW).saturating_add(8);
        out.raw("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Graph of programs and destinations\">\n<svg class=\"graph\" viewBox=\"0 0 760 ");
        number(out, height);
        out.raw("\" role=\"img\" aria-label=\"");
        out.text(&self.label());
        out.raw("\">\n");
        for arrow in &self.arrows {
            for (class, shift, traffic) in [
                (
                    "<path class=\"yes\" stroke-width=\"",
                    0,
                    &arrow.talk.allowed,
                ),
                ("<path class=\"no\" stroke-width=\"", 5, &arrow.talk.denied),
            ] {
                if traffic.count == 0 {
                    continue;
                }
                let y = |at: usize, of: usize| middle(at, of, height).saturating_add(shift);
                let (from, to) = (
                    y(arrow.from, self.programs.len()),
                    y(arrow.to, self.destinations.len()),
                );
                out.raw(class);
                out.number(width(traffic.sent.saturating_add(traffic.received)));
                out.raw("\" d=\"M250 ");
                number(out, from);
                out.raw(" C 360 ");
                number(out, from);
                out.raw(" 360 ");
                number(out, to);
                out.raw(" 470 ");
                number(out, to);
                out.raw("\"/>\n");
            }
        }
        for (at, name) in self.programs.iter().enumerate() {
            let y = middle(at, self.programs.len(), height);
            node(
                out,
                "<text x=\"242\" class=\"left\" y=\"",
                y,
                &shortened(process(name), CHARACTERS[0]),
            );
        }
        for (at, name) in self.destinations.iter().enumerate() {
            let y = middle(at, self.destinations.len(), height);
            node(
                out,
                "<text x=\"478\" y=\"",
                y,
                &shortened(name, CHARACTERS[1]),
            );
        }
        out.raw("</svg>\n</div>\n");
    }

    /// Returns the numbers of the drawing in words.
    fn label(&self) -> String {
        format!(
            "{} programs and {} destinations; the lists of processes and destinations have the same data",
            self.programs.len(),
            self.destinations.len()
        )
    }
}

/// Returns the number of the run's destinations, and whether it is exact. If it is not, there may be more.
fn destinations(document: &BoundaryDocument) -> (u64, bool) {
    let tried = document.denied.iter().chain(&document.answered);
    let tried = tried.map(|row| row.attempt.target());
    let allowed = document.allowed.iter();
    let allowed = allowed.map(|row| place(&row.host, row.port));
    let mut names: BTreeSet<String> = tried.chain(allowed).collect();
    // This row stands for many destinations.
    let mut is_exact = !names.remove(OTHERS);
    for left_out in [
        document.denied_left_out,
        document.answered_left_out,
        document.allowed_left_out,
    ] {
        is_exact &= left_out == 0;
    }
    // Each allowed destination has one row. A destination that is left out may also have a row as a denied one.
    let all_allowed = count(document.allowed.len()).saturating_add(document.allowed_left_out);
    (count(names.len()).max(all_allowed), is_exact)
}

/// Returns the number of programs that used the network, and whether it is exact. If it is not, there are more.
fn programs(shown: &Shown<'_>) -> (u64, bool) {
    let destinations = shown.activity.destinations.values();
    let names = destinations.flat_map(|destination| destination.0.keys());
    let mut names: BTreeSet<&str> = names
        .chain(shown.activity.programs.keys())
        .map(String::as_str)
        .collect();
    let is_exact = !names.remove(OTHERS);
    (count(names.len()), is_exact)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn node(out: &mut Html, begin: &'static str, y: usize, name: &str) {
    out.raw(begin);
    number(out, y.saturating_add(5));
    out.raw("\">");
    out.text(name);
    out.raw("</text>\n");
}

fn number(out: &mut Html, number: usize) {
    out.number(count(number));
}

/// Returns the vertical middle of row `at`, if `of` rows fill the whole height.
fn middle(at: usize, of: usize, height: usize) -> usize {
    let halves = at.saturating_mul(2).saturating_add(1);
    let whole = halves.saturating_mul(height);
    whole.checked_div(of.saturating_mul(2)).unwrap_or(0)
}

/// Returns the width of an arrow. Each further unit stands for eight times as many bytes.
fn width(bytes: u64) -> u64 {
    let digits = u64::from(bytes.checked_ilog2().unwrap_or(0));
    digits
        .saturating_sub(6)
        .checked_div(3)
        .unwrap_or(0)
        .clamp(1, 8)
}
