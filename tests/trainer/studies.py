"""Studies small enough to be written in a test: grey squares with the finding as brightness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from corpus.findings import make_statuses
from corpus.language.sections import parse_report
from corpus.records import ImageRef, ProblemSink, Study

REPORTS = {
    "pleural_effusion": "FINDINGS: Large left pleural effusion. Heart size is normal.",
    "cardiomegaly": "FINDINGS: The heart is enlarged, cardiomegaly. No pleural effusion.",
    "no_finding": "FINDINGS: The lungs are clear. No pleural effusion. IMPRESSION: No acute disease.",
}
GREY = {"pleural_effusion": 40, "cardiomegaly": 120, "no_finding": 210}


@dataclass(frozen=True)
class Few:
    """A source of `count` subjects; of either side only what is asked for."""

    folder: Path
    count: int = 60
    name: str = "few"
    images: bool = True
    texts: bool = True
    labels: bool = False
    findings: Sequence[str] = field(default_factory=lambda: tuple(REPORTS))

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        for number in range(self.count):
            finding = self.findings[number % len(self.findings)]
            study_id = f"{self.name}:{number}"
            images = ()
            if self.images:
                path = self.folder / f"{number}.png"
                if not path.exists():
                    rng = np.random.default_rng(number)
                    grey = GREY[finding] + rng.integers(-20, 20, (40, 40))
                    Image.fromarray(grey.astype(np.uint8)).save(path)
                images = (ImageRef(f"{study_id}#{number}", str(path)),)
            yield Study(
                study_id,
                f"{self.name}:subject{number}",
                self.name,
                images,
                parse_report(study_id, REPORTS[finding]) if self.texts else None,
                make_statuses([finding]) if self.labels else {},
            )
