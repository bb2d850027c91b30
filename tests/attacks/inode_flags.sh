# Flags of an inode that change its quota and how names in it are compared.
# stops: seccomp
# oracle: call
# as: nobody
attempt() { mkdir flags && chattr +d flags; }
