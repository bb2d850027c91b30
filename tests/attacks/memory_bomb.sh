# More memory than the run may have.
# claims: limit-memory
# stops: supervisor
# oracle: call
# options: --max-memory 100M
attempt() {
    # The attempt uses the memory in one process. tests/tests/machine/limits.rs tests several processes, which needs
    # cgroup controllers.
    python <<'EOP'
held = bytearray(200 << 20)
for page in range(0, len(held), 4096): held[page] = 1
EOP
}
