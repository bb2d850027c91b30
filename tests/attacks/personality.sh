# A process all of whose readable memory is executable.
# stops: seccomp
# oracle: call
# as: nobody
attempt() { setarch -X true; }
