use super::*;

/// Scans and judges a head as the relay does.
fn verdict(bytes: &[u8]) -> Result<Framing, HeadError> {
    match scan(bytes, 0)? {
        Scan::End(end) => judge(&bytes[..end]),
        Scan::More(_) => Err(HeadError::Incomplete),
    }
}

#[test]
fn sound_heads_pass_with_their_framing() {
    let cases: [(&str, Framing); 13] = [
        ("CONNECT a:443 HTTP/1.0\r\n\r\n", Framing::Length(0)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", Framing::Length(0)),
        (
            "GET http://a/x?y HTTP/1.1\r\nhost: a\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
            Framing::Length(5),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:5\r\n\r\n",
            Framing::Length(5),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            Framing::Chunked,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \u{fc}\t!\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            Framing::Length(0),
        ),
    ];
    for (head, framing) in cases {
        assert_eq!(verdict(head.as_bytes()), Ok(framing), "{head:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_second_reading_is_refused_by_name() {
    let cases: [(&str, HeadError); 41] = [
        ("GET / HTTP/1.1\nHost: a\n\n", HeadError::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", HeadError::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::BareLf),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", HeadError::BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", HeadError::BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX", HeadError::BareCr),
        (
            "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
            HeadError::ControlByte,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
            HeadError::ControlByte,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n",
            HeadError::ControlByte,
        ),
        (
            "GET /\x1b HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadError::ControlByte,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            HeadError::ObsFold,
        ),
        ("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", HeadError::ObsFold),
        (
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadError::Malformed,
        ),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::Malformed),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
            HeadError::Malformed,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n",
            HeadError::Malformed,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            HeadError::Malformed,
        ),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Malformed),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", HeadError::Malformed),
        ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Malformed),
        ("GET / b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Version),
        ("GET /\r\nHost: a\r\n\r\n", HeadError::Malformed),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", HeadError::Version),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", HeadError::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::H2c),
        ("GET / HTTP/1.1\r\n\r\n", HeadError::NoHost),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            HeadError::TwoHosts,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::LengthAndEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n",
            HeadError::TwoLengths,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            HeadError::Length,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            HeadError::TransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            HeadError::TransferEncoding,
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::TransferEncoding,
        ),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            HeadError::Http10KeepAlive,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, Content-Length\r\n\r\n",
            HeadError::ConnectionNamesFraming,
        ),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
            HeadError::UnexpectedBody,
        ),
    ];
    for (head, error) in cases {
        assert_eq!(verdict(head.as_bytes()), Err(error), "{head:?}");
    }
}

#[test]
fn scanning_in_pieces_finds_the_same_as_at_once() {
    let heads = [
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nrest",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX",
    ];
    for head in heads {
        let bytes = head.as_bytes();
        for step in 1..=bytes.len() {
            let mut from = 0;
            let mut end = 0;
            let found = loop {
                end = (end + step).min(bytes.len());
                match scan(&bytes[..end], from) {
                    Ok(Scan::More(at)) if end < bytes.len() => from = at,
                    other => break other,
                }
            };
            assert_eq!(found, scan(bytes, 0), "{head:?} by {step}");
        }
    }
}

#[test]
fn size_and_number_of_fields_are_bounded() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(MAX_HEAD));
    assert_eq!(verdict(long.as_bytes()), Err(HeadError::TooLarge));
    assert_eq!(scan(&vec![b'a'; MAX_HEAD + 1], 0), Err(HeadError::TooLarge));
    let with = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count)
        )
    };
    assert_eq!(
        verdict(with(MAX_FIELDS - 1).as_bytes()),
        Ok(Framing::Length(0))
    );
    assert_eq!(
        verdict(with(MAX_FIELDS).as_bytes()),
        Err(HeadError::TooLarge)
    );
}

#[test]
fn a_changed_byte_never_makes_a_second_reading() {
    let heads = [
        "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n",
    ];
    for head in heads {
        for at in 0..head.len() {
            for value in 0..=255_u8 {
                let mut bytes = head.as_bytes().to_vec();
                bytes[at] = value;
                let Ok(framing) = verdict(&bytes) else {
                    continue;
                };
                // The changed head has the same framing. If the name of the framing field was changed, the request has
                // no body.
                let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
                let lengths = text.matches("\r\ncontent-length:").count();
                let encodings = text.matches("\r\ntransfer-encoding:").count();
                match framing {
                    Framing::Length(0) => assert_eq!(encodings, 0, "{text:?}"),
                    Framing::Length(_) => assert_eq!((lengths, encodings), (1, 0), "{text:?}"),
                    Framing::Chunked => assert_eq!((lengths, encodings), (0, 1), "{text:?}"),
                }
                assert!(
                    !text.replace("\r\n", "").contains(['\r', '\n', '\0']),
                    "{text:?}"
                );
            }
        }
    }
}
