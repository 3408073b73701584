"""expected.json: the outcome of every case that is not right, by outcome and reason, so that a change is easy to read."""

import json
import pathlib

PATH = pathlib.Path(__file__).resolve().parent / "expected.json"
# Exempt cases are only counted: exempt.json or the package says which they are.
KEPT = ("wrong", "failed", "refused")
# From the worst: a refusal is better than a wrong answer.
ORDER = (*KEPT, "right")


def read():
    """(outcome, reason) by key."""
    if not PATH.exists():
        return {}
    listed = json.loads(PATH.read_text())
    return {key: (name, reason) for name, reasons in listed.items() for reason, keys in reasons.items() for key in keys}


def write(found, ran):
    """Replaces what the file says of the cases that ran, and keeps the rest."""
    said = {key: pair for key, pair in read().items() if key not in ran}
    said |= {key: (outcome.name, outcome.reason) for key, outcome in found.items() if outcome.name in KEPT}
    grouped = {name: {} for name in KEPT}
    for key, (name, reason) in sorted(said.items(), key=lambda item: (*item[1], item[0])):
        grouped[name].setdefault(reason, []).append(key)
    PATH.write_text(json.dumps(grouped, indent=1, ensure_ascii=False) + "\n")


def differences(found, ran):
    """A line for each case that ran and whose outcome or reason is not the one in the file.

    First those that became worse, then those with another reason, those that became better, and cases that are not run any more.
    """
    before, lines = read(), []
    for key in sorted(ran):
        was = before.get(key, ("right", ""))
        outcome = found.get(key)
        if outcome is None or outcome.name not in ("right", *KEPT):
            if key in before:
                lines.append((3, f"{key}: was {was[0]}, is not run any more"))
        elif (outcome.name, outcome.reason) != was:
            change = ORDER.index(outcome.name) - ORDER.index(was[0])
            rank = 0 if change < 0 else 1 if change == 0 else 2
            told = outcome.detail or outcome.reason
            lines.append((rank, f"{key}: was {shown(*was)}, is {shown(outcome.name, told)}"))
    return [line for _, line in sorted(lines)]


def shown(name, reason):
    return f"{name} ({reason})" if reason else name
