"""What two runs of the same settings have in common."""


def without_times(content):
    """Everything but how long it took."""
    if isinstance(content, dict):
        return {
            key: without_times(value)
            for key, value in content.items()
            if "seconds" not in key
        }
    if isinstance(content, list):
        return [without_times(item) for item in content]
    return content
