//! Creates kernel objects as guards that remove themselves.
