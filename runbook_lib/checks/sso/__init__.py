"""The proof of chapter 07: attempts from outside and inside, decided on what came back."""
