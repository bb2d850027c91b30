# A git index that names files in the git directory or outside the workspace. The next checkout writes these files.
# claims: read-git-index* git-indexes
# stops: supervisor
# oracle: script
# cases: hook outside threads
repository() {
    git init -q . && git config user.email a@b && git config user.name n && git config index.threads 4 &&
        touch a && git add a && git commit -qm first
}
wrap() { (cd "$DIR"/*/work && repository) }
attempt() {
    python "$1" <<'EOP'
import hashlib
def blob(text):
    made = subprocess.run(['git', 'hash-object', '-w', '--stdin'], input=text, capture_output=True)
    return bytes.fromhex(made.stdout.decode())
def entry(path, mode=0o100755):
    text = b'#!/bin/sh\necho owned > ../owned\n' if b'post' in path else b'owned'
    whole = bytes(24) + struct.pack('>I', mode) + bytes(12) + blob(text) + struct.pack('>H', len(path)) + path
    return whole + bytes(8 - len(whole) % 8)
hook = b'.git/hooks/post-checkout'
names = {'hook': [hook, b'a'], 'outside': [b'../owned', b'a'], 'threads': [b'a', b'b']}[case]
head = b'DIRC' + struct.pack('>II', 2, len(names))
entries = b''.join(map(entry, names))
rest = b''
if case == 'threads':
    # Entries for a reader with one thread, followed by others for a reader with several threads.
    other = entry(hook) + entry(b'a')
    rest = b'ZZZZ' + struct.pack('>I', len(other)) + other
    at = len(head) + len(entries) + 8
    end = len(head) + len(entries) + len(rest)
    blocks = struct.pack('>III', 1, at, 2)
    rest += b'IEOT' + struct.pack('>I', len(blocks)) + blocks
    rest += b'EOIE' + struct.pack('>II', 24, end) + hashlib.sha1(b'IEOT' + struct.pack('>I', len(blocks))).digest()
whole = head + entries + rest
open('.git/index', 'wb').write(whole + hashlib.sha1(whole).digest())
EOP
}
control() { repository && attempt "$1"; }
reached() {
    for work in "$DIR"/*/work "$DIR/control"; do
        [ -e "$work" ] && cd "$work" || continue
        git checkout -q -- .
        git checkout -q -- .
        [ -e ../owned ] && return 0
    done
    return 1
}
