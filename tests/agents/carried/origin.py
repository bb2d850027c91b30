"""Counts the payload that reaches it, by the host name of each request.

    origin.py CERTIFICATE KEY

It listens on port 8100, and with TLS on port 8101. The path of a request is `/FATE/SIZE`. FATE selects when and how
the request is answered. SIZE is the length of the payload. Each byte of the payload is an `x`. When a connection
begins, the file `received` gets the line `begun 0`. When it ends, the file gets the lines `HOST COUNT` and `ended 0`.
"""

import base64
import collections
import hashlib
import socket
import ssl
import sys
import threading

KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# Everything that follows on the connection is counted as payload, so the connection must not carry another request.
LAST = b"\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
OK = b"HTTP/1.1 200 OK" + LAST
FORGED = b"HTTP/1.1 403 Forbidden\r\nX-Pipelock-Block-Reason: dlp" + LAST
# Requests with other fates are never answered.
ANSWERS = {"warm": KEPT, "early": OK, "forged": FORGED}
LOCK = threading.Lock()


def note(*lines):
    with LOCK, open("received", "a") as file:
        file.write("".join(f"{name} {count}\n" for name, count in lines))


def head(file):
    """Returns the parts of the path and the header fields of the next request."""
    words = file.readline().decode("latin-1").split()
    fields = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.lower()] = value.strip()
    if len(words) < 2:
        raise EOFError
    return words[1].strip("/").split("/"), fields


def uploads(stream, file, counts):
    while True:
        (fate, size), fields = head(file)
        host = fields["host"].split(":")[0]
        if fields.get("upgrade", "").lower() == "websocket":
            return frames(stream, file, fate, fields, lambda count: counts.update({host: count}))
        answer, left = ANSWERS.get(fate), 0 if fate == "early" else int(size)
        while True:
            if answer and left <= 0:
                stream.sendall(answer)
                answer = None
                if fate == "warm":
                    break
            part = file.read1(1 << 20)
            if not part:
                return None
            left -= part.count(b"x")
            counts[host] += part.count(b"x")


def frames(stream, file, fate, fields, count):
    if fate == "forged":
        stream.sendall(FORGED)
        while part := file.read1(1 << 20):
            count(part.count(b"x"))
        return
    key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    stream.sendall(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    if fate == "early":
        stream.sendall(b"\x88\x02\x03\xe8")
    while len(first := file.read(2)) == 2:
        length = first[1] & 0x7F
        if length > 125:
            length = int.from_bytes(file.read(2 if length == 126 else 8), "big")
        file.read(4)
        # A mediator may have given the frame another mask.
        while length and (part := file.read1(length)):
            length -= len(part)
            if first[0] & 0x0F in (0, 1):
                count(len(part))
        if first[0] & 0x0F == 8:
            return


def serve(stream, context):
    note(("begun", 0))
    counts = collections.Counter()
    try:
        stream = context.wrap_socket(stream, server_side=True) if context else stream
        with stream, stream.makefile("rb") as file:
            uploads(stream, file, counts)
    except (OSError, EOFError):
        pass
    note(*counts.items(), ("ended", 0))


def listen(port, context):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    note(("begun", 0), ("ended", 0))
    while True:
        threading.Thread(target=serve, args=(server.accept()[0], context), daemon=True).start()


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(*sys.argv[1:3])
threading.Thread(target=listen, args=(8101, tls), daemon=True).start()
listen(8100, None)
