"""The proof of chapter 07: attempts from outside and inside, each decided by the responses it got."""
