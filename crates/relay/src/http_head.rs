//! Judges the raw head of one HTTP/1 request. Performs no I/O.
//!
//! hyper accepts heads that another program may parse differently, such as heads with a bare LF, with Content-Length
//! and Transfer-Encoding, with two lengths, with two hosts, or without a host. The relay therefore checks every head
//! before hyper receives it, and denies ambiguous heads.

/// Maximum length of a head: the request line and the fields.
pub const MAX_HEAD: usize = 64 * 1024;

/// Maximum number of header fields, which is also hyper's limit.
pub const MAX_FIELDS: usize = 100;

/// How the body of an approved request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes; 0 if there is no body.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// Why the bytes of a request are denied. The text is the reason word of the flow report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// LF without CR before it.
    #[error("bare_lf")]
    BareLf,
    /// CR without LF after it.
    #[error("bare_cr")]
    BareCr,
    /// NUL or another control byte.
    #[error("control_byte")]
    ControlByte,
    /// A field line that starts with a space or tab.
    #[error("obs_fold")]
    ObsFold,
    /// A head longer than [`MAX_HEAD`], or with more than [`MAX_FIELDS`] fields.
    #[error("head_too_large")]
    TooLarge,
    /// A head that is not a request line and field lines.
    #[error("malformed_head")]
    Malformed,
    /// A request target that is not a URI.
    #[error("malformed_target")]
    Target,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("http_version")]
    Version,
    /// The HTTP/2 preface.
    #[error("h2c")]
    H2c,
    /// No Host field.
    #[error("no_host")]
    NoHost,
    /// More than one Host field.
    #[error("two_hosts")]
    TwoHosts,
    /// Content-Length together with Transfer-Encoding.
    #[error("length_and_transfer_encoding")]
    LengthAndEncoding,
    /// More than one Content-Length, equal or not.
    #[error("two_lengths")]
    TwoLengths,
    /// A Content-Length that is not a plain number.
    #[error("malformed_length")]
    Length,
    /// A Transfer-Encoding that is not exactly `chunked`, or any Transfer-Encoding in HTTP/1.0.
    #[error("transfer_encoding")]
    TransferEncoding,
    /// A Connection field that names Host, Content-Length, or Transfer-Encoding.
    #[error("connection_names_framing")]
    ConnectionNamesFraming,
    /// HTTP/1.0 with a request for a persistent connection.
    #[error("http10_keep_alive")]
    Http10KeepAlive,
    /// A CONNECT or an upgrade with a body.
    #[error("unexpected_body")]
    UnexpectedBody,
    /// A chunk size line that is not just a hexadecimal number.
    #[error("malformed_chunk")]
    Chunk,
    /// Fields after the last chunk.
    #[error("trailer_fields")]
    Trailers,
    /// The connection ended or timed out before the end of a head.
    #[error("incomplete_head")]
    Incomplete,
}

impl HeadError {
    /// Returns whether the error is in a body. The head of that request was already passed on.
    pub fn is_in_body(self) -> bool {
        matches!(self, Self::Chunk | Self::Trailers)
    }

    /// Returns the HTTP status for this error.
    pub fn status(self) -> u16 {
        if self == Self::TooLarge { 431 } else { 400 }
    }
}

/// Where a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The head does not end in these bytes. Continue at this offset when more bytes arrive.
    More(usize),
    /// The head is this many bytes long.
    End(usize),
}

/// Searches for the end of a head from offset `from`, and checks every byte on the way.
///
/// The error is returned as soon as the wrong byte arrives, because a client that ends its lines with a bare LF never
/// sends the CRLF CRLF that ends a head.
///
/// # Errors
/// Fails if a line end is not CRLF, if the first line is empty, if a control byte or a folded line occurs, or if the
/// head is too large.
pub fn scan(bytes: &[u8], from: usize) -> Result<Scan, HeadError> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(skip) = rest
            .iter()
            .position(|&b| b < b' ' && b != b'\t' || b == 0x7f)
        else {
            return more(bytes.len());
        };
        let cr = at + skip;
        match bytes.get(cr) {
            Some(b'\r') => {}
            Some(b'\n') => return Err(HeadError::BareLf),
            _ => return Err(HeadError::ControlByte),
        }
        // Some servers skip an empty first line and others do not, so an empty first line is ambiguous.
        if cr == 0 && bytes.get(1) == Some(&b'\n') {
            return Err(HeadError::Malformed);
        }
        match (bytes.get(cr + 1), bytes.get(cr + 2)) {
            (None, _) | (Some(b'\n'), None) => return more(cr),
            (Some(b'\n'), Some(b' ' | b'\t')) => return Err(HeadError::ObsFold),
            (Some(b'\n'), Some(b'\r')) => match bytes.get(cr + 3) {
                None => return more(cr),
                Some(b'\n') if cr + 4 <= MAX_HEAD => return Ok(Scan::End(cr + 4)),
                Some(b'\n') => return Err(HeadError::TooLarge),
                Some(_) => return Err(HeadError::BareCr),
            },
            (Some(b'\n'), Some(_)) => at = cr + 2,
            (Some(_), _) => return Err(HeadError::BareCr),
        }
    }
}

/// Judges a complete head that [`scan`] found, and returns how its body ends.
///
/// # Errors
/// Fails if the head is ambiguous, or requests something that the relay does not pass on.
pub fn judge(head: &[u8]) -> Result<Framing, HeadError> {
    if head.starts_with(b"PRI * HTTP/2") {
        return Err(HeadError::H2c);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => return Err(HeadError::Version),
        Ok(_) | Err(_) => return Err(HeadError::Malformed),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadError::Malformed);
    };
    check_target(target)?;
    let found = Fields::read(request.headers)?;
    found.judge(method, version)
}

/// The header fields that determine how a message is framed and routed.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    length: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    websocket: bool,
    keep_alive: bool,
    names_framing: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, HeadError> {
        let mut found = Self::default();
        for field in headers {
            let value = field.value;
            if field.name.eq_ignore_ascii_case("host") {
                found.hosts += 1;
            } else if field.name.eq_ignore_ascii_case("content-length") {
                if found.length.replace(value).is_some() {
                    return Err(HeadError::TwoLengths);
                }
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                if found.encoding.replace(value).is_some() {
                    return Err(HeadError::TransferEncoding);
                }
            } else if field.name.eq_ignore_ascii_case("upgrade") {
                // Any other protocol (such as `h2c`, which Java offers by default) is removed from
                // the request. The request is then an ordinary one (RFC 9110, section 7.8).
                found.websocket |= tokens(value).any(|t| t.eq_ignore_ascii_case(b"websocket"));
            } else if field.name.eq_ignore_ascii_case("connection") {
                for token in tokens(value) {
                    found.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    found.names_framing |=
                        [b"host".as_slice(), b"content-length", b"transfer-encoding"]
                            .iter()
                            .any(|name| token.eq_ignore_ascii_case(name));
                }
            }
        }
        Ok(found)
    }

    fn judge(&self, method: &str, version: u8) -> Result<Framing, HeadError> {
        match self.hosts {
            // CONNECT names its host in the request line, and Python before 3.12 does not send a Host field with it.
            0 if method == "CONNECT" => {}
            0 => return Err(HeadError::NoHost),
            1 => {}
            _ => return Err(HeadError::TwoHosts),
        }
        if self.names_framing {
            return Err(HeadError::ConnectionNamesFraming);
        }
        if version == 0 && self.keep_alive {
            return Err(HeadError::Http10KeepAlive);
        }
        let framing = match (self.length, self.encoding) {
            (Some(_), Some(_)) => return Err(HeadError::LengthAndEncoding),
            (None, None) => Framing::Length(0),
            (Some(length), None) => Framing::Length(number(length).ok_or(HeadError::Length)?),
            (None, Some(encoding)) => {
                if version == 0 || !encoding.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::TransferEncoding);
                }
                Framing::Chunked
            }
        };
        if (self.websocket || method == "CONNECT") && framing != Framing::Length(0) {
            return Err(HeadError::UnexpectedBody);
        }
        Ok(framing)
    }
}

/// Rejects a target that contains `#` or a byte that is not printable ASCII, or that `http::Uri` rejects. hyper would
/// also reject a target that `http::Uri` rejects, but without a reason.
fn check_target(target: &str) -> Result<(), HeadError> {
    if !target
        .bytes()
        .all(|b| (0x21..0x7f).contains(&b) && b != b'#')
    {
        return Err(HeadError::Target);
    }
    match target.parse::<http::Uri>() {
        Ok(_) => Ok(()),
        Err(_) => Err(HeadError::Target),
    }
}

/// Returns the members of a comma-separated list without surrounding blanks.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// Parses a number that consists only of decimal digits.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn more(at: usize) -> Result<Scan, HeadError> {
    if at > MAX_HEAD {
        Err(HeadError::TooLarge)
    } else {
        Ok(Scan::More(at))
    }
}

#[cfg(test)]
#[path = "http_head/tests.rs"]
mod tests;
