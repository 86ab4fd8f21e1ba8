"""Data of `burnish demo`: support tickets of an invented chain of shops, and the truth about them."""
