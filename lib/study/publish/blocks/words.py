"""Words and numbers that several blocks have."""


def top1_text(row):
    """Top-1 of a row with its interval."""
    return f"{row.top1:.2f} [{row.low:.1f}, {row.high:.1f}]"


def lost_text(row):
    """Points of top-1 lost on test images with their interval, of a row of `files_of_compress`."""
    return f"{row.lost:.2f} [{row.lost_low:.2f}, {row.lost_high:.2f}]"


def least_and_most(claims):
    """The lowest and the highest measured gain."""
    return f"{claims['measured'].min():.1f} to {claims['measured'].max():.1f}"


def verdict_counts(claims):
    """How often each verdict was given."""
    counts = claims["verdict"].dropna().value_counts()
    return ", ".join(f"{word} in {count} of {counts.sum()}" for word, count in counts.items())
