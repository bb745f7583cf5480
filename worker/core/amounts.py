"""Numbers and time spans in the words that people use."""


def number(amount: float) -> str:
    """Write a number for people: ``1,840``, ``0.5``."""
    return f"{amount:,.0f}" if float(amount).is_integer() else f"{amount:,.2f}".rstrip("0")


def count(amount: float, noun: str, nouns: str = "") -> str:
    """Count things: ``1 job``, ``1,840 jobs``; ``1 delivery``, ``2 deliveries``."""
    return f"{number(amount)} {noun if amount == 1 else nouns or f'{noun}s'}"


def about(seconds: float) -> str:
    """Write a time span that is an estimate, to two digits or whole seconds: ``4.8 s``."""
    return f"{seconds:.2g} s" if seconds < 9.5 else duration(round(seconds))


def duration(seconds: float) -> str:
    """Write a time span as exactly as it deserves: ``0.31 s``, ``4 min 20 s``, ``3 d``."""
    seconds = max(seconds, 0)
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for unit, size, smaller, part in (("min", 60, "s", 1), ("h", 3600, "min", 60)):
        if seconds < size * (60 if unit == "min" else 48):
            rest = int(seconds % size) // part
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds / 86400:.0f} d"
