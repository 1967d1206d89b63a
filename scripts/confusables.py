"""Writes client/coterie_client/confusables.txt from Unicode's table of characters that look alike.

    python scripts/confusables.py confusables.txt > client/coterie_client/confusables.txt

confusables.txt is https://www.unicode.org/Public/security/latest/confusables.txt (Unicode Technical Standard 39). Only
the characters that a user name can have are kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from coterie_protocol.errors import BadName
from coterie_protocol.identifiers import user_name

ROW = re.compile(r"^([0-9A-F]+)\s*;\s*([0-9A-F ]+?)\s*;\s*MA")


def may_be_in_a_name(character: str) -> bool:
    """Say whether a user name can hold a character, alone or behind a letter."""
    try:
        return user_name(f"a{character}") == f"a{character}"
    except BadName:
        return False


def main(source: Path) -> None:
    """Write the table."""
    text = source.read_text(encoding="utf-8-sig")
    version = re.search(r"Version: (\S+)", text)
    rows = {row[1]: row[2] for line in text.splitlines() if (row := ROW.match(line))}
    print("# Characters that look alike: those of user names, each with the prototype of Unicode's confusables.txt.")
    print(f"# Made by scripts/confusables.py from version {version[1] if version else 'unknown'} of")
    print("# https://www.unicode.org/Public/security/latest/confusables.txt (UTS 39), (c) Unicode, Inc.,")
    print("# used under https://www.unicode.org/license.txt")
    for character, prototype in sorted(rows.items(), key=lambda row: int(row[0], 16)):
        if may_be_in_a_name(chr(int(character, 16))):
            print(f"{character} {prototype}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
