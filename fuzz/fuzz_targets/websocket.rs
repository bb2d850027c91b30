//! WebSocket frames: the same messages are forwarded wherever the bytes are cut, and only as whole frames.
#![no_main]
use egress_fuzz::Cut;
use egress_relay::frames::Frames;
use libfuzzer_sys::fuzz_target;

/// A message or a control frame: its flags and opcode, and its payload without the mask.
type Message = (u8, Vec<u8>);

/// Splits off one frame. Returns the first byte of the frame, the payload without the mask, and the bytes after the
/// frame.
fn frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let ([first, second], mut rest) = bytes.split_first_chunk()?;
    if second & 0x80 == 0 {
        return None;
    }
    let length = match second & 0x7f {
        126 => {
            let (length, after) = rest.split_first_chunk()?;
            rest = after;
            u64::from(u16::from_be_bytes(*length))
        }
        127 => {
            let (length, after) = rest.split_first_chunk()?;
            rest = after;
            u64::from_be_bytes(*length)
        }
        short => u64::from(short),
    };
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let plain = payload.iter().zip(mask.iter().cycle());
    Some((
        *first,
        plain.map(|(byte, mask)| byte ^ mask).collect(),
        rest,
    ))
}

/// Returns the messages in `bytes`, which must consist of whole frames. Fragments of one message are joined.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut done: Vec<Message> = Vec::new();
    let mut open: Option<Message> = None;
    while !bytes.is_empty() {
        let (first, payload, rest) = frame(bytes).expect("a whole frame with a mask");
        bytes = rest;
        if first & 8 != 0 && payload.len() <= 125 {
            done.push((first, payload));
            continue;
        }
        // A continuation frame has neither flags nor an opcode.
        let is_next = first & 0x7f == 0;
        let message = match &mut open {
            Some(open) if is_next => open,
            open => {
                done.extend(open.take());
                open.insert((first & 0x7f, Vec::new()))
            }
        };
        message.1.extend(payload);
        if first & 0x80 != 0 {
            done.extend(open.take());
        }
    }
    done.extend(open);
    done
}

/// Returns whether a control frame is too long. Such a frame is forwarded like a data frame, and its receiver rejects
/// it.
fn has_long_control(mut bytes: &[u8]) -> bool {
    while let [first, second, ..] = bytes {
        if first & 8 != 0 && second & 0x7f > 125 {
            return true;
        }
        match frame(bytes) {
            Some((_, _, rest)) => bytes = rest,
            None => return false,
        }
    }
    false
}

fuzz_target!(|data: &[u8]| {
    let cut = Cut::of(data);
    if has_long_control(cut.text) {
        return;
    }
    let whole = Frames::default().take(cut.text);
    let mut parts = Vec::new();
    let mut frames = Frames::default();
    let pieces = cut.pieces();
    for piece in &pieces {
        parts.extend(frames.take(piece));
    }
    // Each piece adds at most the header of one fragment.
    assert!(parts.len() <= cut.text.len() + 14 * pieces.len());
    assert_eq!(messages(&parts), messages(&whole));
});
