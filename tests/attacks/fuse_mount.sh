# A FUSE file system that only the user who mounted it may read, whatever the modes of its files are. Here, that user is
# root.
# claims: private-mounts
# stops: private-run privileges
# oracle: canary
serve() {
    mkdir "$PLACE/mount"
    python "$CANARY" <<EOP
fd = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fd},rootmode=40000,user_id=0,group_id=0'
if libc.mount(b'none', b'$PLACE/mount', b'fuse.attack', 6, options.encode()): raise OSError(ctypes.get_errno(), 'mount')
open('$DIR/ready', 'w').close()
def attributes(node):
    mode, links = (0o40755, 2) if node == 1 else (0o100644, 1)
    return struct.pack('6Q10I', node, len(case), 0, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)
while True:
    request = os.read(fd, 1 << 18)
    length, call_, number, node = struct.unpack_from('IIQQ', request)
    error, answer = 0, b''
    if call_ == 26: answer = struct.pack('4I2H2I2HI', 7, 31, 65536, 0, 16, 12, 65536, 1, 256, 0, 0) + bytes(28)
    elif call_ == 1: # look up
        if request[40:] == b'secret\0': answer = struct.pack('4Q2I', 2, 0, 1, 1, 0, 0) + attributes(2)
        else: error = -errno.ENOENT
    elif call_ == 3: answer = struct.pack('Q2I', 1, 0, 0) + attributes(node)
    elif call_ in (14, 27): answer = bytes(16) # open
    elif call_ == 15: # read
        start, size = struct.unpack_from('QI', request, 48)
        answer = case.encode()[start:start + size]
    elif call_ == 17: answer = struct.pack('5Q4I', 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24)
    elif call_ in (2, 42): continue # no answer
    elif call_ not in (18, 25, 29): error = -errno.ENOSYS
    try: os.write(fd, struct.pack('IiQ', 16 + len(answer), error, number) + answer)
    except FileNotFoundError: pass # interrupted
EOP
}
attempt() { cat "$PLACE/mount/secret"; }
