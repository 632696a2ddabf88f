"""Figures with what they are compared with, printed as they come and kept as JSON."""

import json
from pathlib import Path
from typing import Any


class Report:
    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.figures: dict[str, dict[str, Any]] = {}

    def title(self, text: str) -> None:
        print(f"\n{text}")

    def add(self, name: str, value: float, unit: str, *, floor: float | None = None, against: str = "") -> None:
        """One figure. `floor` is what it stands beside (the same statements without us, or the smaller case)."""
        ratio = value / floor if floor else None
        self.figures[name] = {
            "value": round(value, 3),
            "unit": unit,
            "floor": None if floor is None else round(floor, 3),
            "ratio": None if ratio is None else round(ratio, 3),
        }
        beside = f"   {floor:>10,.1f} {unit:<4} {against:<34} ratio {ratio:.2f}" if floor and ratio else ""
        print(f"  {name:<44} {value:>10,.1f} {unit:<4}{beside}")

    def value(self, name: str) -> float:
        found: float = self.figures[name]["value"]
        return found

    def write(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(self.figures, indent=2) + "\n")
