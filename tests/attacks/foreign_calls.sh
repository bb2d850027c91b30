# A system call by its i386 number, which the filters for this machine's architecture do not list.
# claims: calls
# stops: seccomp
# oracle: call
attempt() {
    python <<'EOP'
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
# getpid: mov $20, %eax; int $0x80; ret.
code.write(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3')
entry = ctypes.addressof(ctypes.c_char.from_buffer(code))
sys.exit(ctypes.CFUNCTYPE(ctypes.c_int)(entry)() != os.getpid())
EOP
}
