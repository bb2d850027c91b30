//! Sets the `Content-Length` of an answer that is passed on.
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};

/// Replaces every `Content-Length` of an answer with the length of its body, or removes it if the length is unknown.
///
/// `body` is the exact length that the HTTP library found when it parsed the answer. If the answer has a transfer
/// coding, the library ignores `Content-Length` when it reads the answer (RFC 9112, section 6.3). When the library
/// writes the answer, it uses `Content-Length`, and would truncate the body or fail. An answer without a body, as after
/// `HEAD`, keeps the length in its fields, because that length describes the answer to `GET`.
pub fn settle(headers: &mut HeaderMap, body: Option<u64>) {
    let length = match body {
        Some(0) => stated(headers),
        length => length,
    };
    headers.remove(CONTENT_LENGTH);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Returns the length in `Content-Length`, if all its fields are equal and there is no transfer coding.
fn stated(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let first = values.next()?;
    let is_one = values.all(|value| value == first);
    let digits = first.to_str().ok().filter(|_| is_one)?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(fields: &[(&'static str, &'static str)], body: Option<u64>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        settle(&mut headers, body);
        let values = headers.get_all(CONTENT_LENGTH).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// Claims: crate-http
    #[test]
    fn length_is_that_of_the_body() {
        let length = |value| ("content-length", value);
        let chunked = ("transfer-encoding", "chunked");
        for (fields, body, expected) in [
            (&[length("5")][..], Some(5), &["5"][..]),
            (&[length("5"), length("5")], Some(5), &["5"]),
            (&[length("5, 5")], Some(5), &["5"]),
            (&[], Some(5), &["5"]),
            (&[length("5"), chunked], None, &[]),
            (&[length("abc"), chunked], None, &[]),
            (&[length("5"), length("7"), chunked], None, &[]),
            // An answer to HEAD has no body, but keeps its length.
            (&[length("5")], Some(0), &["5"]),
            (&[length("5"), length("5")], Some(0), &["5"]),
            (&[length("5"), length("7")], Some(0), &[]),
            (&[length("+5")], Some(0), &[]),
            (&[length("abc")], Some(0), &[]),
            (&[length("5"), chunked], Some(0), &[]),
            (&[], Some(0), &[]),
        ] {
            assert_eq!(settled(fields, body), expected, "{fields:?} {body:?}");
        }
    }
}
