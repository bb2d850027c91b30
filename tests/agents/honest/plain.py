"""Requests over plain HTTP, with and without an answer."""

import time

from wire import (
    EARLY,
    NOBODY,
    PROXY,
    RAW,
    SIZE,
    answer,
    ask,
    chosen,
    chunked,
    connect,
    head,
    host,
    kind,
    proxy,
    reset,
    size,
    text,
    upload,
)

# Plain HTTP, answered.


@kind
def get():
    return ask("/")


@kind
def get_bytes():
    return ask(f"/bytes/{size()}")


@kind
def get_chunked():
    return ask(f"/chunked/{size()}")


@kind
def get_gzip():
    return ask("/gzip", fields=["Accept-Encoding: gzip"])


@kind
def get_until_close():
    return ask("/until-close", port=RAW)


@kind
def get_after_hints():
    return ask("/hints", port=RAW)


@kind
def get_redirect():
    return ask("/redirect/x")


@kind
def get_upper_case():
    return ask("/", name="ALLOWED.Test")


@kind
def get_final_dot():
    return ask("/", name="allowed.test.")


@kind
def get_token():
    return ask("/?access_token=ghp_" + "".join(chosen.random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=36)))


@kind
def get_query():
    return ask(f"/?page={size()}&sort=name")


@kind
def get_missing():
    return ask("/nothing/here")


@kind
def get_forbidden():
    return ask("/status/403")


@kind
def get_too_many():
    return ask("/status/429")


@kind
def get_unavailable():
    return ask("/status/503")


@kind
def get_bad_gateway():
    return ask("/status/502")


@kind
def get_slow():
    return ask("/slow/300")


@kind
def head_of():
    return ask("/bytes/1000", "HEAD")


@kind
def options():
    return ask("/", "OPTIONS")


@kind
def delete():
    return ask("/", "DELETE")


@kind
def no_content():
    return ask("/status/204")


@kind
def not_modified():
    return ask("/status/304", fields=['If-None-Match: "x"'])


@kind
def keep_alive():
    name = host()
    with connect(name) as stream:
        results = []
        for number in range(4):
            stream.sendall(head("GET", f"/bytes/{number}", name))
            results.append(answer(stream))
        return "+".join(results)


@kind
def pipelined():
    name = host()
    with connect(name) as stream:
        stream.sendall(b"".join(head("GET", f"/bytes/{number}", name) for number in range(3)))
        return "+".join(answer(stream) for _ in range(3))


# Uploads.


@kind
def post():
    return upload("/upload", text(size()))


@kind
def post_nothing():
    return upload("/upload", b"")


@kind
def put_chunked():
    body = chunked(text(size()), 1000)
    fields = ["Content-Type: text/plain", "Transfer-Encoding: chunked"]
    return ask("/upload", "PUT", fields=fields, body=body)


@kind
def post_expecting():
    name, body = host(), text(size())
    with connect(name) as stream:
        fields = [f"Content-Length: {len(body)}", "Content-Type: text/plain", "Expect: 100-continue", "Connection: close"]
        stream.sendall(head("POST", "/upload", name, *fields))
        time.sleep(0.05)
        stream.sendall(body)
        return answer(stream)


@kind
def post_answered_early():
    return upload(f"/early/{SIZE}", text(EARLY), port=RAW)


@kind
def post_going_on_after_the_answer():
    name, body = host(), text(EARLY)
    with connect(name, RAW, 2) as stream:
        stream.sendall(head("POST", f"/early/{SIZE}", f"{name}:{RAW}", f"Content-Length: {EARLY}") + body[:SIZE])
        try:
            status = answer(stream)
            for at in range(SIZE, EARLY, SIZE):
                stream.sendall(body[at:at + SIZE])
                time.sleep(0.01)
        except TimeoutError:
            # A mediator that reads the whole body first gives this result.
            stream.sendall(body[SIZE:])
            status = answer(stream)
        except OSError:
            # A mediator that closes the connection early gives this result.
            pass
        return status


@kind
def post_answered_late():
    return upload("/late/300", text(size()), port=RAW)


# Requests that fail.


@kind
def origin_cuts():
    return ask("/cut/500", port=RAW)


@kind
def origin_resets_and_retry():
    try:
        return ask("/reset", port=RAW)
    except OSError:
        return ask("/")
    except EOFError:
        return ask("/")


@kind
def nobody_listens():
    return ask("/", port=NOBODY)


@kind
def blocked():
    return ask("/", name="denied.test")


@kind
def blocked_upload():
    return upload("/upload", text(size()), name="denied.test")


@kind
def blocked_on_a_kept_connection():
    with proxy() if PROXY else connect("denied.test") as stream:
        stream.sendall(head("GET", "http://denied.test/", "denied.test"))
        first = answer(stream)
        stream.sendall(head("GET", "http://allowed.test/", "allowed.test", "Connection: close"))
        return f"{first}+{answer(stream)}"


@kind
def leads_inside():
    return ask("/", name=chosen.random.choice(["loopback.test", "metadata.test"]))


@kind
def no_such_name():
    return ask("/", name="nowhere.test")


@kind
def port_not_allowed():
    return ask("/", port=8443)


@kind
def not_http():
    with connect(host()) as stream:
        stream.sendall(b"\x00\x01\x02 hello\r\n\r\n")
        return "closed" if not stream.recv(100) else "answered"


@kind
def silent():
    connect(host()).close()
    return "closed"


@kind
def half_a_head():
    with connect(host()) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: allo")
    return "closed"


@kind
def abort_before_the_answer():
    name = host()
    stream = connect(name)
    stream.sendall(head("GET", "/slow/500", name))
    time.sleep(0.05)
    reset(stream)
    return "reset"


@kind
def close_before_the_answer():
    name = host()
    with connect(name) as stream:
        stream.sendall(head("GET", "/slow/500", name))
        time.sleep(0.05)
    return "closed"


@kind
def abort_download():
    name = host()
    stream = connect(name)
    stream.sendall(head("GET", f"/bytes/{SIZE * 4}", name))
    stream.recv(100)
    reset(stream)
    return "reset"


@kind
def close_download():
    name = host()
    with connect(name) as stream:
        stream.sendall(head("GET", f"/chunked/{SIZE * 4}", name))
        stream.recv(100)
    return "closed"


@kind
def abort_upload():
    name = host()
    stream = connect(name)
    stream.sendall(head("POST", "/upload", name, f"Content-Length: {SIZE}") + text(SIZE // 2))
    time.sleep(0.05)
    reset(stream)
    return "reset"


@kind
def close_upload():
    name = host()
    with connect(name) as stream:
        stream.sendall(head("POST", "/upload", name, f"Content-Length: {SIZE}") + text(SIZE // 2))
        time.sleep(0.05)
    return "closed"


@kind
def close_chunked_upload():
    name = host()
    with connect(name) as stream:
        stream.sendall(head("PUT", "/upload", name, "Transfer-Encoding: chunked") + b"64\r\n" + text(100) + b"\r\n")
        time.sleep(0.05)
    return "closed"
