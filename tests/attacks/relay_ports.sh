# The relay's addresses and ports, which a program binds before the relay or in addition to it, so that it answers
# instead of the relay.
# stops: privileges relay
# oracle: call
# cases: proxy proxy_any proxy_mapped transparent transparent6 names names_udp
attempt() {
    python "$1" <<'EOP'
family, kind, place = {
    'proxy': (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 3128)),
    'proxy_any': (socket.AF_INET6, socket.SOCK_STREAM, ('::', 3128)),
    'proxy_mapped': (socket.AF_INET6, socket.SOCK_STREAM, ('::ffff:127.0.0.1', 3128)),
    'transparent': (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 1001)),
    'transparent6': (socket.AF_INET6, socket.SOCK_STREAM, ('::1', 1001)),
    'names': (socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', 53)),
    'names_udp': (socket.AF_INET, socket.SOCK_DGRAM, ('127.0.0.1', 53)),
}[case]
s = socket.socket(family, kind)
for option in socket.SO_REUSEADDR, socket.SO_REUSEPORT: s.setsockopt(socket.SOL_SOCKET, option, 1)
s.bind(place)
if kind == socket.SOCK_STREAM: s.listen()
EOP
}
