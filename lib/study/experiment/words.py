"""Numbers and lists as words."""


def listed(texts):
    """Join texts: "a", "a and b", "a, b and c"."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def bullets(start, texts):
    """A Markdown list below the start of a sentence."""
    return "\n".join([f"{start}:", "", *(f"- {text}" for text in texts)])


def span(values, digits=1):
    """The least and the most of some numbers: "1.0 to 2.5", or "1.0" if they are written alike."""
    low, high = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def bits_of(number):
    """Number of bits."""
    return "1 bit" if number == 1 else f"{number:.0f} bits"


def lost(points):
    """Points of top-1 that are lost, or gained if negative."""
    return f"{points:.2f} points lost" if points >= 0 else f"{-points:.2f} points gained"


def beside(points, other):
    """Which of two accuracies is higher, and by how many points."""
    return f"{abs(points):.1f} points {'below' if points < 0 else 'above'} {other}"
