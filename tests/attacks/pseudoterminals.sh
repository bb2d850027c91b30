# More than one user's share of the machine's pseudoterminals.
# claims: table-pseudoterminals
# stops: private-run
# oracle: call
# as: nobody
attempt() {
    python <<'EOP'
held = [os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY) for _ in range(1100)]
EOP
}
