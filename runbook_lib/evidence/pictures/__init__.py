"""Pictures of what a run saw, each with the same in words: the sign-on, a request's way, the first boots, what each hardening level closes."""
