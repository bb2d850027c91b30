# Device nodes of the machine, existing or newly made.
# stops: privileges private-run
# oracle: call
# cases: mknod
attempt() { mknod node c 1 3 && head -c 1 node; }
