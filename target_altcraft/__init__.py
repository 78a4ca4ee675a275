"""Singer target for Altcraft: records become profiles that enter a scenario."""
