# A well-known service of the machine, on its usual socket.
# claims: path-sockets
# stops: private-run
# oracle: canary
# cases: docker.sock podman/podman.sock containerd/containerd.sock buildkit/buildkitd.sock dbus/system_bus_socket systemd/private systemd/resolve/io.systemd.Resolve systemd/journal/stdout nscd/socket snapd.socket ssh-agent.sock user/0/gnupg/S.gpg-agent
# as: nobody
serve() {
    # The runner has its own /run, so the machine is not changed.
    mkdir "$DIR/keep" && mount --bind /run/egress "$DIR/keep" && mount -t tmpfs -o mode=755 none /run &&
        mkdir /run/egress && mount --bind "$DIR/keep" /run/egress || exit
    mkdir -p "$(dirname "/run/$1")"
    python "$1" <<EOP
os.umask(0)
s = socket.socket(socket.AF_UNIX); s.bind(f'/run/{case}'); s.listen()
open('$DIR/ready', 'w').close()
while True:
    # Other programs of the runner also connect to these sockets: glibc queries nscd for the name of a user.
    connection = s.accept()[0]
    connection.settimeout(1)
    try: said = connection.recv(64)
    except OSError: said = b''
    if said == b'attempt': open('$WITNESS', 'ab').write(b'x')
    connection.close()
EOP
}
attempt() {
    python "$1" <<'EOP'
s = socket.socket(socket.AF_UNIX)
s.connect(f'/run/{case}')
s.sendall(b'attempt')
s.recv(1)
EOP
}
