# Names of files, processes, and hosts that a terminal, a workflow runner, or a viewer of the packet interprets as
# commands.
# claims: read-names* read-output read-proc
# stops: supervisor
# oracle: script
# env: GITHUB_ACTIONS=true
# cases: file process host
attempt() {
    python "$1" <<'EOP'
names = [b'\x1b]0;owned\x07', b'\n::error::owned', b'a\r##[error]owned', b'###[error]owned', b'|<b>`own`', b'\xff\x9b1m', '\u202eowned'.encode()]
for name in names:
    if case == 'file':
        for one in name, b'.git-' + name: open(one, 'w').close()
        os.symlink('/etc', b'link' + name)
    elif case == 'process':
        libc.prctl(15, name, 0, 0, 0)
        try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.20', 7000))
        except OSError: pass
    else:
        for line in b'GET http://x' + name + b'.test/ HTTP/1.1\r\nHost: x\r\n\r\n', b'CONNECT x' + name + b'.test:80 HTTP/1.1\r\n\r\n':
            talk(proxy, line)
        label = name[:20]
        question = b'\xab\xcd\1\0\0\1\0\0\0\0\0\0' + bytes([len(label)]) + label + b'\4test\0\0\1\0\1'
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try: s.connect((open('/etc/resolv.conf').read().split('nameserver ')[1].split()[0], 53)); s.send(question)
        except OSError: pass
EOP
}
# The control prints such names unchanged.
control() { printf '\033]0;owned\007\n::error::owned\n'; }
reached() {
    python3 - "$DIR/said" "$DIR"/*/packet/*.{md,json,jsonl,html} <<'EOP'
import re, sys
for path in sys.argv[1:]:
    text = open(path, 'rb').read()
    ill = rb'[\0-\x08\x0b-\x1f\x7f]|^\s*(::|##\[).*owned'
    # The runner executes this command anywhere in a line of its log.
    if path.endswith('/said'): ill += rb'|##\[.*owned'
    # A JSON string may contain these bytes only in escaped form.
    if not path.endswith(('.json', '.jsonl')): ill += rb'|\xc2[\x80-\x9f]|\xe2\x80\xae|[\0-\x7f]\x9b'
    # Markup in a code span has no effect.
    if path.endswith('.html'): ill += rb'|<b>'
    if path.endswith('.md'): text, ill = re.sub(rb'(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)', b'', text), ill + rb'|<b>'
    if re.search(ill, text, re.M): print(path), sys.exit(0)
sys.exit(1)
EOP
}
