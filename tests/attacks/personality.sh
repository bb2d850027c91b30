# A process whose readable memory is all executable.
# stops: seccomp
# oracle: call
# as: nobody
attempt() { setarch -X true; }
