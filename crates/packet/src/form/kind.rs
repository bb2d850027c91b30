//! The kinds of forms that a table can give a value.

/// What a value may be.
#[derive(Debug)]
pub(super) enum Form {
    /// An object with exactly these members. The name of one that may be absent ends in `?`.
    Object(&'static [(&'static str, Form)]),
    /// An object whose members have any names.
    Map(&'static Form),
    /// An array.
    List(&'static Form),
    /// `null`, or this.
    Nullable(&'static Form),
    /// One of several.
    Either(&'static [Form]),
    /// Any string.
    Text,
    /// A string that is not empty.
    Name,
    /// One of these strings.
    Word(&'static [&'static str]),
    /// So many lowercase hexadecimal digits.
    Hex(usize),
    /// Permission bits, as four octal digits.
    Mode,
    /// An unsigned integer of at most 53 bits.
    Number,
    /// `true` or `false`.
    Flag,
    /// `true`.
    True,
}
