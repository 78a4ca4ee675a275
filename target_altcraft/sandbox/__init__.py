"""A local stand-in for Altcraft: demos, rehearsals, tests. Nothing else imports it."""
