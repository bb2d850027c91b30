"""Requests through tunnels, WebSockets, and the explicit proxy, and requests that are open when the command ends."""

import ssl
import struct
import time

from wire import (
    HOSTS,
    LARGE,
    NOBODY,
    PROXY,
    RAW,
    SIZE,
    TRUST,
    answer,
    ask,
    chosen,
    connect,
    frame,
    handshake,
    head,
    host,
    kind,
    left,
    proxy,
    read_exactly,
    read_head,
    reset,
    size,
    text,
    tls,
    upload,
)

# Tunnels.


@kind
def https_get():
    return ask("/", port=443, open_by=tls)


@kind
def https_large():
    return ask(f"/bytes/{LARGE}", port=443, open_by=tls)


@kind
def https_upload():
    return upload("/upload", text(LARGE), port=443, open_by=tls)


@kind
def https_keep_alive():
    name = host()
    with tls(name) as stream:
        results = []
        for number in range(3):
            stream.sendall(head("GET", f"/bytes/{number}", name))
            results.append(answer(stream))
        return "+".join(results)


@kind
def https_blocked():
    return ask("/", name="denied.test", port=443, open_by=tls)


@kind
def https_leads_inside():
    return ask("/", name="metadata.test", port=443, open_by=tls)


@kind
def https_nobody_listens():
    return ask("/", port=NOBODY, open_by=tls)


@kind
def https_other_name():
    with TRUST.wrap_socket(connect("allowed.test", 443), server_hostname="denied.test") as stream:
        stream.sendall(head("GET", "/", "denied.test", "Connection: close"))
        return answer(stream)


@kind
def https_abort_download():
    name = host()
    stream = tls(name)
    stream.sendall(head("GET", f"/bytes/{LARGE}", name))
    stream.recv(1000)
    reset(stream)
    return "reset"


@kind
def https_close_upload():
    name = host()
    with tls(name) as stream:
        stream.sendall(head("POST", "/upload", name, f"Content-Length: {LARGE}") + text(LARGE // 2))
    return "closed"


@kind
def https_hello_only():
    stream = connect(host(), 443)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = TRUST.wrap_bio(incoming, outgoing, server_hostname="allowed.test")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        stream.sendall(outgoing.read())
    time.sleep(0.05)
    reset(stream)
    return "reset"


@kind
def https_idle():
    with tls(host()) as stream:
        time.sleep(0.3)
        stream.unwrap()
    return "closed"


# WebSockets.


@kind
def websocket():
    name = host()
    with connect(name) as stream:
        status = handshake(stream, name)
        if status != "101":
            return status
        message = text(chosen.random.randint(1, 100))
        stream.sendall(frame(0x81, message))
        echo = read_exactly(stream, 2 + len(message))[2:]
        stream.sendall(frame(0x88, struct.pack(">H", 1000)))
        while stream.recv(100):
            pass
        return "echo" if echo == message else "other"


@kind
def websocket_secure():
    name = host()
    with tls(name) as stream:
        status = handshake(stream, name)
        stream.sendall(frame(0x81, b"hello"))
        read_exactly(stream, 7)
        stream.sendall(frame(0x88, struct.pack(">H", 1000)))
        return status


@kind
def websocket_refused():
    name = host()
    with connect(name) as stream:
        # A mediator may accept the upgrade before the origin has answered.
        if handshake(stream, name, "/status/404") == "101":
            while stream.recv(100):
                pass
    return "refused"


@kind
def websocket_blocked():
    with connect("denied.test") as stream:
        return handshake(stream, "denied.test")


@kind
def websocket_reset():
    name = host()
    stream = connect(name)
    status = handshake(stream, name)
    stream.sendall(frame(0x81, b"hello"))
    stream.recv(7)
    reset(stream)
    return status


@kind
def websocket_left():
    name = host()
    with connect(name) as stream:
        status = handshake(stream, name)
        stream.sendall(frame(0x81, b"hello"))
        stream.recv(7)
        return status


@kind
def websocket_binary():
    name = host()
    with connect(name) as stream:
        handshake(stream, name)
        stream.sendall(frame(0x82, b"bytes"))
        return "%x" % read_exactly(stream, 1)[0]


# Requests through the explicit proxy, if there is one.


def by_proxy(target, name, method="GET", fields=(), body=b""):
    if not PROXY:
        return ask(target.split(name, 1)[1], method, name.rsplit("@")[-1], fields, body)
    with proxy() as stream:
        stream.sendall(head(method, target, name.rsplit("@")[-1], "Connection: close", *fields) + body)
        return answer(stream, method)


@kind
def proxy_get():
    name = host()
    return by_proxy(f"http://{name}/", name)


@kind
def proxy_post():
    name, body = host(), text(size())
    fields = ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
    return by_proxy(f"http://{name}/upload", name, "POST", fields, body)


@kind
def proxy_userinfo():
    name = host()
    return by_proxy(f"http://user:word@{name}/", f"user:word@{name}")


@kind
def proxy_blocked():
    return by_proxy("http://denied.test/", "denied.test")


@kind
def proxy_hosts_in_turn():
    if not PROXY:
        return "200+200+200"
    with proxy() as stream:
        results = []
        for name in [*HOSTS, HOSTS[0]]:
            stream.sendall(head("GET", f"http://{name}/", name))
            results.append(answer(stream))
        return "+".join(results)


def through(name, port=443):
    if not PROXY:
        return connect(name, port)
    stream = proxy()
    stream.sendall(head("CONNECT", f"{name}:{port}", f"{name}:{port}"))
    status, _ = read_head(stream)
    if status != "200":
        raise ConnectionError(status)
    return stream


@kind
def proxy_connect():
    name = host()
    with TRUST.wrap_socket(through(name), server_hostname=name) as stream:
        stream.sendall(head("GET", "/", name, "Connection: close"))
        return answer(stream)


@kind
def proxy_connect_blocked():
    with TRUST.wrap_socket(through("denied.test"), server_hostname="denied.test") as stream:
        stream.sendall(head("GET", "/", "denied.test", "Connection: close"))
        return answer(stream)


@kind
def proxy_connect_unused():
    through(host()).close()
    return "closed"


@kind
def proxy_fetch():
    if not PROXY:
        return "none"
    with proxy() as stream:
        stream.sendall(head("GET", f"/fetch?url=http://{host()}/bytes/100", "127.0.0.1", "Connection: close"))
        return answer(stream)


@kind
def proxy_fetch_blocked():
    if not PROXY:
        return "none"
    with proxy() as stream:
        stream.sendall(head("GET", "/fetch?url=http://denied.test/", "127.0.0.1", "Connection: close"))
        return answer(stream)


# Requests that are open when the command ends.


@left
def unanswered():
    name = host()
    stream = connect(name)
    stream.sendall(head("GET", "/slow/60000", name))
    return stream


@left
def delivered_and_unanswered():
    name = host()
    stream = connect(name, RAW)
    body = text(SIZE)
    stream.sendall(head("POST", "/late/60000", f"{name}:{RAW}", f"Content-Length: {len(body)}") + body)
    return stream


@left
def half_delivered():
    name = host()
    stream = connect(name)
    stream.sendall(head("POST", "/upload", name, f"Content-Length: {SIZE}") + text(SIZE // 2))
    return stream


@left
def half_read():
    name = host()
    stream = connect(name)
    stream.sendall(head("GET", f"/bytes/{SIZE * 4}", name))
    stream.recv(100)
    return stream


@left
def open_tunnel():
    name = host()
    stream = tls(name)
    stream.sendall(head("GET", "/", name))
    answer(stream)
    return stream


@left
def tunnel_unanswered():
    name = host()
    stream = tls(name)
    stream.sendall(head("POST", "/upload", name, f"Content-Length: {LARGE}") + text(LARGE // 2))
    return stream


@left
def open_websocket():
    name = host()
    stream = connect(name)
    handshake(stream, name)
    stream.sendall(frame(0x81, b"hello"))
    read_exactly(stream, 7)
    return stream
