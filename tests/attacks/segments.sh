# A segment in the local descriptor table, for code of 16 or 32 bits.
# stops: seccomp
# oracle: call
# as: nobody
attempt() {
    python <<'EOP'
# user_desc: entry 0, a data segment of one page.
call(154, 0, 1, at(struct.pack('IIII', 0, 0, 0xfff, 0x51)), 16)
EOP
}
