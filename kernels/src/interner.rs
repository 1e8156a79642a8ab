//! Byte strings as dense ids: what a key column becomes while it is decoded.
