"""The store's schema: numbered SQL files, each taking a store from the number before to its own."""
