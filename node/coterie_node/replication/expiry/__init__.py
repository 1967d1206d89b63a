"""The end of records: the clock that a majority agrees upon, collection, the return of a node that missed it."""
