# Devices of the machine, found or made.
# stops: privileges private-run
# oracle: call
# cases: mknod
attempt() { mknod node c 1 3 && head -c 1 node; }
