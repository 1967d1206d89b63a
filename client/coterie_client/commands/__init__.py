"""The commands, a module each; see cli for what a module must have."""
