"""Text as people may safely and easily read it."""


def plain(text: str) -> str:
    r"""Text that cannot steer a terminal, with its lines: what is no letter is told as \x1b.

    Whoever names objects of a cluster, or refuses requests there, could otherwise change what a
    terminal shows.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def count_of(number: int, what: str) -> str:
    """So many of something: `1 clause`, `2 clauses`, `1,000 attempts`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
