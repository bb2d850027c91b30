//! Draws the traffic of a destination over the time of the run.
use super::super::activity::{PARTS, Talk};
use super::markup::Html;

/// Returns the drawing of one destination: allowed traffic in the upper half, and denied attempts in the lower half.
/// `label` is the same in words.
pub(super) fn draw(talk: &Talk, label: &str) -> Html {
    let mut out = Html::default();
    out.raw("<svg class=\"track\" viewBox=\"0 0 ");
    out.number(u64::from(PARTS));
    out.raw(" 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"");
    out.text(label);
    out.raw("\"><rect class=\"middle\" y=\"4.8\" width=\"");
    out.number(u64::from(PARTS));
    out.raw("\" height=\"0.4\"/>");
    for (start, length) in blocks(talk.allowed.parts) {
        rect(&mut out, "<rect class=\"yes\" y=\"0\" x=\"", start, length);
    }
    for (start, length) in blocks(talk.denied.parts) {
        rect(&mut out, "<rect class=\"no\" y=\"5.5\" x=\"", start, length);
    }
    out.raw("</svg>");
    out
}

fn rect(out: &mut Html, begin: &'static str, start: u32, length: u32) {
    out.raw(begin);
    out.number(u64::from(start));
    out.raw("\" width=\"");
    out.number(u64::from(length));
    out.raw("\" height=\"4.5\"/>");
}

/// Returns start and length of each block of neighboring bits.
fn blocks(bits: u128) -> Vec<(u32, u32)> {
    let mut blocks: Vec<(u32, u32)> = Vec::new();
    for part in 0..PARTS {
        if bits.checked_shr(part).unwrap_or(0) & 1 == 0 {
            continue;
        }
        match blocks.last_mut() {
            Some((start, length)) if start.saturating_add(*length) == part => {
                *length = length.saturating_add(1);
            }
            _ => blocks.push((part, 1)),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighboring_parts_are_one_block() {
        assert_eq!(blocks(0), []);
        assert_eq!(blocks(0b1011_0001), [(0, 1), (4, 2), (7, 1)]);
        assert_eq!(blocks(u128::MAX), [(0, PARTS)]);
    }
}
