# A process in which all readable memory is executable.
# stops: seccomp
# oracle: call
# as: nobody
attempt() { setarch -X true; }
