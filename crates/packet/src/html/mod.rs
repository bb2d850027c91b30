//! `report.html`: the packet for people, in one self-contained page.
//!
//! The page has no script, link, or other resource, and the page's content security policy forbids them. Every text
//! passes through `escaped`, including text that the command cannot influence.
use std::collections::BTreeMap;

use super::activity::{Activity, Talk, Traffic};
use super::format::boundary::Through;
use super::headline::{Headline, Tone};
use super::held_back;
use super::hint::Block;
use super::listing::{allowed_in_order, in_order, place};
use super::shown::{ANSWERED, ANSWERED_NOTE, HELD_BACK, Shown, bytes, process, what, why};

mod graph;
mod markup;
mod processes;
mod timeline;

use graph::Graph;
use markup::{Cell, Html, LONG, SHORT};

/// Maximum number of destinations in the time line and in the graph: denied ones, and all together.
const LANES: [usize; 2] = [12, 24];

/// Returns the page as HTML text.
pub fn render(shown: &Shown<'_>) -> String {
    let mut out = Html::start("Audit Packet");
    header(&mut out, shown);
    out.raw("<main>\n");
    denied(&mut out, shown);
    not_applied(&mut out, shown);
    answered(&mut out, shown);
    allowed(&mut out, shown);
    requests(&mut out, shown.activity);
    let lanes = lanes(shown);
    time_line(&mut out, shown, &lanes);
    graph(&mut out, shown, &lanes);
    processes::write(&mut out, shown);
    for (title, items) in shown.remarks() {
        if !items.is_empty() {
            out.section(title);
            out.list(&items, SHORT);
            out.raw("</section>\n");
        }
    }
    check_it(&mut out, shown);
    folded(&mut out, shown);
    out.raw("</main>\n<footer>\n");
    out.paragraph(if shown.is_audit() {
        "This page is for reading. It proves nothing, because any program can write such a page."
    } else {
        "This page is for reading. It proves nothing, because any program can write such a page. The section “Check it” shows how to check the packet."
    });
    out.raw("</footer>\n</body>\n</html>\n");
    out.into_text()
}

/// Writes the first sentence and the facts about the run.
fn header(out: &mut Html, shown: &Shown<'_>) {
    let Headline { tone, sentence } = Headline::of(shown);
    out.raw(match tone {
        Tone::Good => {
            "<header class=\"good\">\n<h1><span class=\"icon\" aria-hidden=\"true\">✓</span> "
        }
        Tone::Warning => {
            "<header class=\"warning\">\n<h1><span class=\"icon\" aria-hidden=\"true\">!</span> "
        }
        Tone::Bad => {
            "<header class=\"bad\">\n<h1><span class=\"icon\" aria-hidden=\"true\">✕</span> "
        }
    });
    out.text(&sentence);
    out.raw("</h1>\n");
    if let Some((what, why)) = shown.because() {
        out.raw("<p class=\"because\">");
        out.text(&format!("{what}: {}", markup::shortened(&why, 300)));
        out.raw("</p>\n");
    }
    out.raw("<dl>\n");
    for (name, value) in shown.about() {
        out.raw("<div><dt>");
        out.text(name);
        out.raw("</dt><dd>");
        out.code(&value);
        out.raw("</dd></div>\n");
    }
    out.raw("</dl>\n</header>\n");
}

fn denied(out: &mut Html, shown: &Shown<'_>) {
    let denied = shown.hinted();
    let document = shown.boundary_document;
    out.section(shown.denied_title());
    if denied.is_empty() {
        out.paragraph("Nothing.");
    } else {
        let rows = denied.iter().map(|(row, hint)| {
            let attempt = &row.attempt;
            let mut to_allow: Vec<Cell> = hint.settings().map(Cell::Code).into_iter().collect();
            to_allow.extend(hint.note.iter().map(|note| Cell::Text(note.to_string())));
            [
                Cell::Code(attempt.target()),
                Cell::Code(process(&attempt.process).to_owned()),
                Cell::Text(row.count.to_string()),
                Cell::Lines(vec![Cell::Text(why(attempt)), Cell::Code(attempt.why())]),
                Cell::Lines(to_allow),
            ]
        });
        let head = ["Destination", "Process", "Count", "Why", "To allow it"];
        let caption = "Attempts that were denied, the most frequent first";
        let more = out.table(caption, &head, rows, LONG);
        out.more(more.saturating_add(document.denied_left_out));
        let hints = denied.iter().map(|(_, hint)| hint);
        if let Some(block) = Block::of(hints, document.denied_left_out) {
            out.raw("<details>\n<summary>To allow them all</summary>\n");
            for text in [block.policy.trim_end(), &block.options] {
                if !text.is_empty() {
                    out.block(text);
                }
            }
            out.raw("</details>\n");
        }
    }
    out.raw("</section>\n");
}

fn not_applied(out: &mut Html, shown: &Shown<'_>) {
    let held = shown.held_back;
    if shown.boundary_document.workspace.changes.is_none() {
        return;
    }
    out.section(HELD_BACK);
    if held.count == 0 {
        out.paragraph("None.");
    } else {
        let rows = held.changes.iter().map(|change| {
            [
                Cell::Code(if change.path.is_empty() {
                    String::from(".")
                } else {
                    change.path.clone()
                }),
                Cell::Code(what(change)),
                Cell::Text(held_back::reason(change).to_owned()),
            ]
        });
        let caption = "Changes that were not applied to the workspace, changes to workflows first";
        let shown_rows = u64::try_from(held.changes.len()).unwrap_or(u64::MAX);
        let more = out.table(caption, &["Path", "Change", "Why"], rows, LONG);
        out.more(held.count.saturating_sub(shown_rows).saturating_add(more));
    }
    out.paragraph(&format!(
        "Changes that were applied: {}. Discarded with the whole run: {}.",
        held.applied, held.discarded
    ));
    out.raw("</section>\n");
}

fn answered(out: &mut Html, shown: &Shown<'_>) {
    let document = shown.boundary_document;
    if document.answered.is_empty() {
        return;
    }
    out.section(ANSWERED);
    out.paragraph(ANSWERED_NOTE);
    let rows = in_order(&document.answered).into_iter().map(|row| {
        let attempt = &row.attempt;
        [
            Cell::Code(attempt.target()),
            Cell::Code(process(&attempt.process).to_owned()),
            Cell::Text(row.count.to_string()),
            Cell::Code(attempt.why()),
        ]
    });
    let head = ["Destination", "Process", "Count", "Answer"];
    let more = out.table("Answers that look like denials", &head, rows, LONG);
    out.more(more.saturating_add(document.answered_left_out));
    out.raw("</section>\n");
}

fn allowed(out: &mut Html, shown: &Shown<'_>) {
    let document = shown.boundary_document;
    let allowed = allowed_in_order(document);
    out.section(shown.allowed_title());
    if allowed.is_empty() {
        out.paragraph("Nothing.");
        out.raw("</section>\n");
        return;
    }
    let rows: Vec<_> = allowed
        .iter()
        .map(|row| {
            let name = place(&row.host, row.port);
            let programs = shown.activity.destinations.get(&name);
            let programs = programs.map(|one| &one.0);
            (name, row.count, programs)
        })
        .collect();
    let sums: Vec<Traffic> = rows
        .iter()
        .map(|(_, _, programs)| {
            let talks = programs.iter().flat_map(|programs| programs.values());
            talks.fold(Traffic::default(), |mut sum, talk| {
                sum.add(&talk.allowed);
                sum
            })
        })
        .collect();
    let largest = |of: fn(&Traffic) -> u64| sums.iter().map(of).max().unwrap_or(0);
    let (sent, received) = (largest(|one| one.sent), largest(|one| one.received));
    let rows = rows
        .iter()
        .zip(&sums)
        .map(|((name, count, programs), sum)| {
            let programs = programs.iter().flat_map(|programs| programs.iter());
            let used = programs.filter(|(_, talk)| talk.allowed.count > 0);
            let names = used.map(|(name, _)| Cell::Code(process(name).to_owned()));
            [
                Cell::Code(name.clone()),
                Cell::Lines(names.take(4).collect()),
                Cell::Text(count.to_string()),
                bar(shown, sum.sent, sent),
                bar(shown, sum.received, received),
                Cell::Text(shown.times(sum).unwrap_or_default()),
            ]
        });
    let head = [
        "Destination",
        "Process",
        "Count",
        "Sent",
        "Received",
        "First to last",
    ];
    let caption = "The most bytes sent first; times count from the start of the run";
    let more = out.table(caption, &head, rows, LONG);
    out.more(more.saturating_add(document.allowed_left_out));
    out.raw("</section>\n");
}

fn bar(shown: &Shown<'_>, count: u64, largest: u64) -> Cell {
    let share = count.saturating_mul(100).checked_div(largest).unwrap_or(0);
    Cell::Bar(shown.carried(count), share.max(u64::from(count > 0)))
}

/// Writes the requests whose paths the relay or the mediator could read.
fn requests(out: &mut Html, activity: &Activity) {
    let (requests, left_out) = activity.requests_in_order(LONG.rows);
    if requests.is_empty() {
        return;
    }
    out.section("Requests that could be read");
    out.paragraph("Requests of plain HTTP, and requests inside TLS that the mediator opened. Neither the relay nor the mediator could read paths inside other TLS.");
    let rows = requests.into_iter().map(|(request, talk)| {
        let number = |count: u64| {
            if count == 0 {
                String::new()
            } else {
                count.to_string()
            }
        };
        [
            Cell::Code(request.target.clone()),
            Cell::Text(request.read_in().to_owned()),
            Cell::Text(number(talk.allowed.count)),
            Cell::Text(number(talk.denied.count)),
            Cell::Text(if request.is_inside_tls {
                String::new()
            } else {
                bytes(talk.sent())
            }),
        ]
    });
    let head = ["Request", "Read in", "Allowed", "Denied", "Sent"];
    let caption = "Requests, the most bytes sent first; secrets in URLs are removed";
    let more = out.table(caption, &head, rows, LONG);
    out.more(more.saturating_add(left_out));
    out.raw("</section>\n");
}

/// A destination of the time line and of the graph.
type Lane<'a> = (&'a str, &'a BTreeMap<String, Talk>);

/// Returns the destinations of the time line and of the graph. The denied ones come first.
fn lanes<'a>(shown: &Shown<'a>) -> Vec<Lane<'a>> {
    let document = shown.boundary_document;
    let denied = in_order(&document.denied).into_iter();
    let allowed = allowed_in_order(document).into_iter();
    let mut lanes: Vec<Lane<'a>> = Vec::new();
    let mut add = |name: String, most: usize| {
        let Some((name, programs)) = shown.activity.destinations.get_key_value(&name) else {
            return;
        };
        let is_new = lanes.iter().all(|(other, _)| other != name);
        if is_new && lanes.len() < most && !programs.0.is_empty() {
            lanes.push((name.as_str(), &programs.0));
        }
    };
    for row in denied {
        add(row.attempt.target(), LANES[0]);
    }
    for row in allowed {
        add(place(&row.host, row.port), LANES[1]);
    }
    lanes
}

fn time_line(out: &mut Html, shown: &Shown<'_>, lanes: &[Lane<'_>]) {
    if lanes.is_empty() || shown.activity.span.is_none() {
        return;
    }
    out.section("Timeline");
    out.paragraph("Each line goes from the start to the end of the run. Above the line: allowed traffic. Below the line: denied attempts.");
    let track = |talk: Talk| {
        let words = |word: &str, traffic: &Traffic| {
            let times = shown.times(traffic).unwrap_or_default();
            format!("{word} {} times, {times}", traffic.count)
        };
        let all = [("allowed", &talk.allowed), ("denied", &talk.denied)];
        let all = all.into_iter().filter(|(_, traffic)| traffic.count > 0);
        let label: Vec<String> = all.map(|(word, traffic)| words(word, traffic)).collect();
        let label = label.join("; ");
        Cell::Drawing(timeline::draw(&talk, &label))
    };
    let mut rows: Vec<[Cell; 2]> = lanes
        .iter()
        .map(|(name, programs)| {
            let sum = programs.values().fold(Talk::default(), |mut sum, talk| {
                sum.add(talk);
                sum
            });
            [Cell::Code((*name).to_owned()), track(sum)]
        })
        .collect();
    let mut rest = shown.activity.others;
    for (name, destination) in &shown.activity.destinations {
        if lanes.iter().all(|(other, _)| other != name) {
            rest.add(&destination.talk());
        }
    }
    if rest.count() > 0 {
        rows.push([
            Cell::Text(String::from("all other destinations")),
            track(rest),
        ]);
    }
    let head = ["Destination", "Traffic over the time of the run"];
    let more = out.table("Traffic by time", &head, rows, LONG);
    out.more(more);
    out.raw("</section>\n");
}

fn graph(out: &mut Html, shown: &Shown<'_>, lanes: &[Lane<'_>]) {
    let graph = Graph::of(lanes);
    if graph.is_empty() {
        return;
    }
    out.section("Who talked to whom");
    out.paragraph("Programs on the left, destinations on the right. Solid: allowed, wider with more bytes. Dashed: denied.");
    graph.draw(out);
    if let Some(left_out) = graph.left_out(shown) {
        out.note(&left_out);
    }
    out.raw("</section>\n");
}

fn check_it(out: &mut Html, shown: &Shown<'_>) {
    let Some((command, fill_in)) = shown.check_command() else {
        return;
    };
    out.section("Check it");
    out.paragraph("Run this on another machine, offline:");
    out.block(&command);
    out.paragraph(fill_in);
    out.raw("</section>\n");
}

/// Writes the parts for readers who check details: hashes, posture, probes, and byte counts.
fn folded(out: &mut Html, shown: &Shown<'_>) {
    let pairs = |rows: Vec<(&'static str, String)>| {
        let rows = rows.into_iter();
        rows.map(|(name, value)| [Cell::Text(name.to_owned()), Cell::Code(value)])
    };
    out.raw("<details>\n<summary>Hashes, keys, and counts</summary>\n");
    let evidence = pairs(shown.evidence());
    out.table("The evidence", &["Name", "Value"], evidence, SHORT);
    out.raw("</details>\n<details>\n<summary>Posture</summary>\n");
    let posture = pairs(shown.posture());
    out.table("Measured enforcement", &["Name", "Value"], posture, SHORT);
    out.raw("</details>\n");
    let probes = &shown.boundary_document.probes.results;
    if !probes.is_empty() {
        out.raw("<details>\n<summary>Probes inside the boundary before the start</summary>\n");
        let rows = probes.iter().map(|probe| {
            [&probe.name, probe.outcome.as_str()].map(|text| Cell::Code(text.to_owned()))
        });
        let more = out.table("Probes", &["Probe", "Outcome"], rows, SHORT);
        out.more(more);
        out.raw("</details>\n");
    }
    channels(out, shown);
}

/// Writes the channels that are open on purpose, and the traffic through them.
fn channels(out: &mut Html, shown: &Shown<'_>) {
    let channels = &shown.boundary_document.residual_channels;
    let through = |name: &str, through: &Through| {
        let numbers = [
            through.requests,
            through.bytes_up,
            through.bytes_down,
            through.target_bytes,
            through.head_bytes,
        ];
        let [requests, up, down, targets, heads] =
            numbers.map(|number| Cell::Text(number.to_string()));
        [
            Cell::Code(name.to_owned()),
            requests,
            up,
            down,
            targets,
            heads,
        ]
    };
    out.raw("<details>\n<summary>Residual channels</summary>\n");
    let hosts = channels.allowed_hosts.iter();
    let more = [
        through("(denied by the mediator)", &channels.blocked),
        through("(other hosts)", &channels.other_hosts),
    ];
    let rows = more
        .into_iter()
        .chain(hosts.map(|(host, bytes)| through(host, bytes)));
    let head = [
        "Host",
        "Requests",
        "Bytes from the command",
        "Bytes to the command",
        "Bytes of targets",
        "Bytes of heads",
    ];
    let more = out.table("Traffic through open channels", &head, rows, SHORT);
    out.more(more);
    out.paragraph(&format!(
        "Names that were answered inside the boundary and did not leave it: {}, {} bytes.",
        channels.names, channels.name_bytes
    ));
    out.raw("</details>\n");
}
