"""Both sides of an image at their least: the innermost maps are one pixel there, of which torch makes no copy."""

from __future__ import annotations

import pytest

from workloads import samples, templates
from workloads.model import find
from workloads.samples import Sample
from workloads.search import prove
from workloads.templates import Family

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = [  # model, stage, least side, and one at which there is a template
    ("imagen", "base", 128, 256),
    ("make-a-video", "decoder", 96, 192),
    ("svd-xt", "vae_decoder", 8, 16),
]


def _sample(model: str, stage: str, height: int, width: int) -> tuple[Sample, Family]:
    request = find(model).request(height=height, width=width)
    found = next(s for s in samples.of_request(find(model), request) if s.stage.name == stage)
    return found, templates.families(found.signature.function)[templates.digest(found.signature.key)]


@pytest.mark.parametrize(("model", "stage", "least"), [case[:3] for case in CASES])
def test_template_of_one_pixel_inside_is_as_captured_or_none(model: str, stage: str, least: int) -> None:
    sample, family = _sample(model, stage, least, least)
    assert prove(family, [sample]) == (family.at(sample.signature.numbers) is not None)


@pytest.mark.parametrize(("model", "stage", "least", "next_one"), CASES)
def test_one_side_at_its_least_has_a_template_as_captured(model: str, stage: str, least: int, next_one: int) -> None:
    for height, width in ((least, next_one), (next_one, least)):
        sample, family = _sample(model, stage, height, width)
        assert prove(family, [sample]) == 1
