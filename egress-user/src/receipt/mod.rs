//! Defines, encodes, chains and checks Pipelock receipts. Pure: bytes in, verdict out.
