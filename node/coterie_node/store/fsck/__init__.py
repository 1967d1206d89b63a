"""A store at rest: looked over from end to end, and mended without taking away a last copy."""
