# Flags of an inode, which decide by what quota it counts and how names in it compare.
# stops: seccomp
# oracle: call
# as: nobody
attempt() { mkdir flags && chattr +d flags; }
