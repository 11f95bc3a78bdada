"""Claims about shares of time and speed-ups: C03 to C12, C18, C20, C28, C30, C32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from explore.paper import checks
from explore.paper.finding import Finding, Times, greatest, listed, named, timed
from explore.paper.frames import exact_flops, networks, shapes
from explore.paper.suite import (
    DIFFUSION,
    DIFFUSION_TTI,
    FLASH,
    GROUPS,
    IMAGEN,
    LLM,
    MUSE,
    PARTI,
    PRODUCTION,
    SD,
    SUITE,
    TITLE,
    TRANSFORMER_TTI,
    TTI_TTV,
    UNFUSED,
    VIDEO,
    Suite,
)  # fmt: skip

ATTENTION, CONVOLUTION, LINEAR, GROUP_NORM = "attention", "Convolution", "Linear", "GroupNorm"
SEEN = 5.0  # %, from which a class of operators counts as one that a model has (C32)
SELF, TEMPORAL = "attention, self", "attention, temporal"
_NAMES = (ATTENTION, LINEAR, *(g for g in GROUPS if not g.startswith((ATTENTION, LINEAR))))
BASE = "base"  # Imagen's 64 x 64 network, which has most of its attention


def _share(models: tuple[str, ...], way: str, group: str) -> Callable[[Times], dict[str, float]]:
    return lambda times: named(models, lambda m: times.share(m, way, group))


def c03(suite: Suite) -> Finding:
    """Attention over the suite, unfused."""
    each = _share(TTI_TTV, UNFUSED, ATTENTION)(Times(suite))
    found = timed(suite, "C03", lambda t: {"": sum(_share(TTI_TTV, UNFUSED, ATTENTION)(t).values()) / len(TTI_TTV)})
    return replace(found, reason=f"{listed(each, ' %')}; {_pixels(suite)}")


def c04(suite: Suite) -> Finding:
    """Convolution, unfused."""
    values = _share(DIFFUSION, UNFUSED, CONVOLUTION)
    found = timed(suite, "C04", lambda t: greatest(values(t)))
    why = f"{listed(values(Times(suite)), ' %')}; {_pixels(suite)}"
    return replace(found, reason=why, check=checks.convolution(suite, IMAGEN, UNFUSED))


def c05(suite: Suite) -> Finding:
    """GroupNorm, unfused."""
    found = timed(suite, "C05", _share(DIFFUSION, UNFUSED, GROUP_NORM), _pixels(suite, GROUP_NORM))
    return replace(found, check=checks.group_norm(suite, IMAGEN, UNFUSED))


def c06(suite: Suite) -> Finding:
    """Convolution of pixel-based over latent-based models; the reading that is nearer."""

    def both(t: Times, component: str = "") -> tuple[float, float]:
        pixel = t.share(IMAGEN, UNFUSED, CONVOLUTION, component)
        latent = sum(t.share(m, UNFUSED, CONVOLUTION) for m in (SD, PRODUCTION)) / 2
        return pixel - latent, 100 * (pixel / latent - 1)

    def nearer(t: Times) -> Mapping[str, float]:
        points, relative = both(t)
        return {"points": points} if abs(points - 15) <= abs(relative - 15) else {"relative": relative}

    points, relative = both(Times(suite))
    base, base_relative = both(Times(suite), BASE)
    why = (
        f"{points:.1f} points, {relative:.0f} % relative; with Imagen's base network alone {base:.1f} "
        f"points, {base_relative:.0f} %"
    )
    return replace(timed(suite, "C06", nearer, why), check=checks.convolution(suite, IMAGEN, UNFUSED))


def c07(suite: Suite) -> Finding:
    """Convolution after flash-2, and whether it is the largest class."""
    values = _share(DIFFUSION_TTI, FLASH, CONVOLUTION)

    def largest(t: Times) -> dict[str, bool]:
        return {TITLE[m]: _largest(t, m) == CONVOLUTION for m in DIFFUSION_TTI}

    times = Times(suite)
    first = ", ".join(name for name, yes in largest(times).items() if yes)
    found = timed(suite, "C07", lambda t: greatest(values(t)), cases=largest)
    why = f"{listed(values(times), ' %')}; the largest class of {first}; {_pixels(suite, way=FLASH)}"
    return replace(found, reason=why, check=checks.convolution(suite, IMAGEN, FLASH))


def c08(suite: Suite) -> Finding:
    """Linear layers after flash-2."""
    values = _share(TRANSFORMER_TTI, FLASH, LINEAR)
    found = timed(suite, "C08", lambda t: greatest(values(t)))
    why = f"{listed(values(Times(suite)), ' %')}; {_transformers(suite)}; {checks.reading(suite)}"
    return replace(found, reason=why)


def c09(suite: Suite) -> Finding:
    """Attention after flash-2, language model and transformers."""
    return timed(suite, "C09", _share((LLM, *TRANSFORMER_TTI), FLASH, ATTENTION), _transformers(suite))


def c10(suite: Suite) -> Finding:
    """Attention after flash-2, diffusion."""
    found = timed(suite, "C10", _share(DIFFUSION, FLASH, ATTENTION), _pixels(suite, ATTENTION, FLASH))
    return replace(found, check="; ".join(checks.attention_flops(suite, m) for m in (IMAGEN, VIDEO)))


def c11(suite: Suite) -> Finding:
    """End to end, kernel time."""
    latency = named(SUITE, lambda m: _latency(suite, m, UNFUSED) / _latency(suite, m, FLASH))
    limit = named(SUITE, lambda m: 1 / (1 - Times(suite).share(m, UNFUSED, ATTENTION) / 100))
    why = f"were attention free: {listed(limit, 'x')}; with the host's time: {listed(latency, 'x')}"
    return timed(suite, "C11", lambda t: named(SUITE, lambda m: t.total(m, UNFUSED) / t.total(m, FLASH)), why)


def c12(suite: Suite) -> Finding:
    """Attention modules, diffusion against transformers."""

    def ratios(t: Times) -> dict[str, float]:
        return {f"{TITLE[d]} / {TITLE[x]}": _sped(t, d) / _sped(t, x) for d in DIFFUSION_TTI for x in TRANSFORMER_TTI}

    each = named((*DIFFUSION_TTI, *TRANSFORMER_TTI), lambda m: _sped(Times(suite), m))
    found = timed(suite, "C12", ratios, f"speed-up of the modules: {listed(each, 'x')}")
    return replace(found, check=checks.moved(suite, (SD, MUSE, PARTI)))


def c18(suite: Suite) -> Finding:
    """Temporal over spatial attention, time."""

    def ratio(t: Times, way: str = UNFUSED, component: str = "") -> float:
        return _video(t, way, TEMPORAL, component) / _video(t, way, SELF, component)

    times = Times(suite)
    parts = {n: ratio(times, component=n) for n in networks(suite)}
    work = {g: sum(exact_flops(shapes(suite, n))[i] for n in networks(suite)) for i, g in enumerate((SELF, TEMPORAL))}
    alone = Times(suite, projections=False)
    rates = {g: work[g] / _video(alone, UNFUSED, g) / 1e12 for g in work}
    why = (
        f"by network: {listed(parts, 'x')}; with flash-2 {ratio(times, FLASH):.2f}x; without projections temporal attention "
        f"reaches {rates[TEMPORAL]:.1f} TFLOP/s "
        f"and spatial {rates[SELF]:.1f}, twice the time for {work[TEMPORAL] / work[SELF]:.3f} of the FLOPs would need "
        f"{rates[SELF] * work[TEMPORAL] / work[SELF] / 2:.2f}"
    )
    return replace(timed(suite, "C18", lambda t: {"": ratio(t)}, why), check=checks.twice_spatial(suite))


def c20(suite: Suite) -> Finding:
    """Temporal attention, share of all attention."""

    def share(t: Times, way: str = UNFUSED) -> float:
        return 100 * t.of(VIDEO, way, TEMPORAL) / t.of(VIDEO, way, ATTENTION)

    times = Times(suite)
    text = sum(times.of(VIDEO, UNFUSED, ATTENTION, n) for n in ("text_encoder", "prior")) / times.of(
        VIDEO, UNFUSED, ATTENTION
    )
    why = (
        f"with flash-2 {share(times, FLASH):.1f} %; text encoder and prior take {100 * text:.1f} % of "
        f"it; the cause is that of C18"
    )
    return replace(timed(suite, "C20", lambda t: {"": share(t)}, why), check=checks.twice_spatial(suite))


def c28(suite: Suite) -> Finding:
    """Attention's speed-up, transformers against the language model."""

    def smaller(t: Times) -> dict[str, bool]:
        return {TITLE[m]: _sped(t, m) < _sped(t, LLM) for m in TRANSFORMER_TTI}

    t = Times(suite)
    parts = {c: _sped(t, LLM, c) for c in ("prefill", "decode")}
    share = 100 * t.of(LLM, UNFUSED, ATTENTION, "prefill") / t.of(LLM, UNFUSED, ATTENTION)
    found = timed(suite, "C28", lambda t: named((LLM, *TRANSFORMER_TTI), lambda m: _sped(t, m)), cases=smaller)
    return replace(
        found,
        reason=f"LLaMA by phase: {listed(parts, 'x')}, of which prefill is {share:.0f} % of its attention's time, unfused",
        check="it turns on how many tokens are decoded for one prompt, which the study does not say: of prefill alone it would "
        f"be {'met' if parts['prefill'] > max(_sped(t, m) for m in TRANSFORMER_TTI) else 'missed'}",
    )


def c30(suite: Suite) -> Finding:
    """Latency, the host's part included."""
    models = (*TRANSFORMER_TTI, *DIFFUSION_TTI)
    values = {TITLE[m]: _latency(suite, m, FLASH) for m in models}
    cases = {
        f"{TITLE[x]} below {TITLE[d]}": values[TITLE[x]] < values[TITLE[d]] for x in TRANSFORMER_TTI for d in DIFFUSION_TTI
    } | {"Muse below Parti": values[TITLE[MUSE]] < values[TITLE[PARTI]]}  # fmt: skip
    missed = ", ".join(name for name, yes in cases.items() if not yes)
    sizes = ", ".join(f"{TITLE[m]} {suite.member(m).scenario.request.height}" for m in models)
    found = timed(suite, "C30", lambda t: named(models, lambda m: t.total(m, FLASH)))
    return replace(
        found,
        values=values,
        cases=cases,
        other_cases={},
        reason=f"{f'not: {missed}; ' if missed else ''}image sides: {sizes}; interval of kernel time",
        check=checks.weights_bound(suite),
    )


def c32(suite: Suite) -> Finding:
    """Attention and linear layers together, and how many classes a model has."""
    few = (LLM, *TRANSFORMER_TTI)

    def both(t: Times) -> dict[str, float]:
        return named(few, lambda m: t.share(m, UNFUSED, ATTENTION) + t.share(m, UNFUSED, LINEAR))

    def counts(t: Times) -> dict[str, int]:
        return {m: _classes(t, m) for m in (*few, *DIFFUSION_TTI)}

    def cases(t: Times) -> dict[str, bool]:
        values, many = both(t), counts(t)
        return {f"{TITLE[m]} mostly": values[TITLE[m]] > 50 for m in few} | {
            f"{TITLE[m]} narrower than {TITLE[d]}": many[m] < many[d] for m in few for d in DIFFUSION_TTI
        }

    said = ", ".join(f"{TITLE[m]} {n}" for m, n in counts(Times(suite)).items())
    return timed(suite, "C32", both, f"classes above {SEEN:g} %: {said}", cases)


def _largest(t: Times, model: str) -> str:
    return max(_NAMES, key=lambda name: t.of(model, FLASH, name))


def _classes(t: Times, model: str) -> int:
    return sum(t.share(model, UNFUSED, name) > SEEN for name in _NAMES)


def _sped(t: Times, model: str, component: str = "") -> float:
    return t.of(model, UNFUSED, ATTENTION, component) / t.of(model, FLASH, ATTENTION, component)


def _video(t: Times, way: str, group: str, component: str = "") -> float:
    """Seconds of a group in Make-A-Video's networks that attend over space and time, or in one of them."""
    return sum(t.of(VIDEO, way, group, n) for n in networks(t.suite) if n.startswith(component))


def _latency(suite: Suite, model: str, way: str) -> float:
    return suite.member(model).priced[way].latency


def _pixels(suite: Suite, group: str = CONVOLUTION, way: str = UNFUSED) -> str:
    """What the networks at full image size do to the two models that have some: a check anyone can repeat."""
    t = Times(suite)
    base = t.share(IMAGEN, way, group, BASE)
    outside = 100 * (1 - t.total(IMAGEN, way, BASE) / t.total(IMAGEN, way))
    attending = sum(t.total(VIDEO, way, n) for n in networks(suite))
    video = _video(t, way, group) / attending
    upscaled = 100 * (1 - attending / t.total(VIDEO, way))
    return (
        f"networks that upscale, which attend at their lowest level or not at all, take {outside:.0f} % of Imagen's time and "
        f"{upscaled:.0f} % of Make-A-Video's; without them {group.lower()} is {base:.1f} and {100 * video:.1f} %"
    )


def _transformers(suite: Suite) -> str:
    """Where linear layers and attention stand in LLaMA's two phases and in Muse's first network."""
    t = Times(suite)
    parts = {(LLM, "prefill"): "LLaMA's prefill", (LLM, "decode"): "its decode", (MUSE, BASE): "Muse's base network"}
    said = (
        f"{name} {t.share(m, FLASH, LINEAR, c):.0f} / {t.share(m, FLASH, ATTENTION, c):.0f} %"
        for (m, c), name in parts.items()
    )
    return f"linear / attention in {', in '.join(said)}"


FOUND = {
    "C03": c03, "C04": c04, "C05": c05, "C06": c06, "C07": c07, "C08": c08, "C09": c09, "C10": c10, "C11": c11, "C12": c12,
    "C18": c18,
    "C20": c20, "C28": c28, "C30": c30, "C32": c32,
}  # fmt: skip
